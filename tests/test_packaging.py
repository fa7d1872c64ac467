"""What `pip install` gives: the package with its data, its types and its command, away from the repository."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_sets import photo
from tiny import tiny

from ssiu import __version__
from ssiu.cli import COMMANDS
from ssiu.images.io import read_rgb, save_image
from ssiu.weights.formats import save_weights

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what it is made of."""
    source = tmp_path_factory.mktemp("source")
    for name in ("ssiu", "configs", "docs", "pretrain_model"):
        left_out = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.jpg", "*.png")
        shutil.copytree(ROOT / name, source / name, ignore=left_out)
    (source / "pretrain_model/SSIU_x2.safetensors").write_bytes(b"stands for the weights")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source]
    subprocess.run(build, check=True, capture_output=True)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel; it borrows only the dependencies from this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    borrowed = [sysconfig.get_path("purelib"), *site.getsitepackages()]
    (packages / "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)))  # .pth files in there do not count
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--force-reinstall", "--no-index", wheel], check=True, capture_output=True)
    return folder / "bin"


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([str(c) for c in command], cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ssiu").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here <= packed, sorted(here - packed)
    configs = {f"ssiu/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yml")}
    assert configs and configs <= packed, sorted(configs - packed)
    assert "ssiu/pretrain_model/SSIU_x2.safetensors" in packed
    assert {name.split("/")[0] for name in packed if ".dist-info" not in name} == {"ssiu"}


def test_an_installed_package_works_away_from_the_repository(environment: Path, tmp_path: Path) -> None:
    code = (
        "import sys, ssiu; assert 'torch' not in sys.modules, 'importing ssiu takes long'\n"
        "from importlib.metadata import entry_points\n"
        "from ssiu.files import docs_page\n"
        "from ssiu.weights.load import find_weights\n"
        "print(ssiu.__file__, find_weights('SSIU', 2), docs_page('data.md'), sep='\\n')\n"
        "print(*(point.value for point in entry_points(group='console_scripts') if point.name.startswith('ssiu')))"
    )
    done = run(environment / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    package, weights, page, command = done.stdout.split()
    assert Path(page).read_text() == (ROOT / "docs/data.md").read_text(), "what a message names is there"
    assert Path(package).is_relative_to(environment.parent)
    assert Path(weights).read_bytes() == b"stands for the weights"
    assert command == "ssiu.cli:entry_point"


def test_the_installed_command_upscales(environment: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "tiny.safetensors", tiny(2))
    save_image(tmp_path / "a.png", photo("chelsea", 20, 30))
    arguments = ("a.png", "--output", "b.png", "--weights", "tiny.safetensors")
    done = run(environment / "ssiu", "upscale", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_rgb(tmp_path / "b.png").shape == (40, 60, 3) and np.ptp(read_rgb(tmp_path / "b.png")) > 0


def test_every_command_is_installed_and_explains_itself(environment: Path, tmp_path: Path) -> None:
    code = """
import contextlib, io, json
from ssiu.cli import COMMANDS, main
texts = {}
for name in COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([name, "--help"])
    texts[name] = printed.getvalue()
print(json.dumps(texts))
"""
    done = run(environment / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    texts = json.loads(done.stdout)
    assert texts.keys() == COMMANDS.keys()
    for name, text in texts.items():
        assert text.startswith(f"usage: ssiu {name} ") and f"\nssiu {name}" in text, name  # the example


def test_the_version_is_the_same_however_it_is_asked_for(environment: Path, tmp_path: Path) -> None:
    code = "import ssiu, importlib.metadata as m; print(ssiu.__version__, m.version('ssiu'))"
    done = run(environment / "python", "-c", code, cwd=tmp_path)
    assert done.stdout.split() == [__version__] * 2, done.stderr
    assert run(environment / "ssiu", "--version", cwd=tmp_path).stdout == f"ssiu {__version__}\n"
    newest = re.search(r"^## (\d[\d.]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and cited and newest[1] == cited[1] == __version__


def test_shipped_configs_are_found_by_name_away_from_the_repository(environment: Path, tmp_path: Path) -> None:
    code = "import ssiu; print(ssiu.load_config('SSUFSR_light_x3').scale, ssiu.load_config('pretrain/SSIU_x4').scale)"
    done = run(environment / "python", "-c", code, cwd=tmp_path)
    assert done.stdout.split() == ["3", "4"], done.stderr


def test_the_api_is_listed_before_it_is_loaded() -> None:
    code = "import ssiu, sys; print(set(ssiu.__all__) <= set(dir(ssiu)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_every_pinned_package_is_pinned_once_and_declared() -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    pinned = [line.partition("==")[0].lower() for line in lines if line]
    assert len(set(pinned)) == len(pinned)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(pinned) == {name.partition(">")[0].lower() for name in declared}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("ssiu", ["export", "external", "external-extra", "hub", "openvino", "wandb"]),
        ("tests", ["export", "external", "hub", "notebook", "dev"]),
    ],
)
def test_every_import_is_a_declared_dependency(folder: str, extras: list[str]) -> None:
    import ast

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [name for extra in extras for name in declared["optional-dependencies"][extra]]
    names = [*declared["dependencies"], *optional]
    named_otherwise = {"Pillow": "PIL", "protobuf": "google", "PyYAML": "yaml"}
    modules = named_otherwise | {"opencv-python-headless": "cv2", "scikit-image": "skimage"}
    known = {modules.get(n := name.split(">")[0], n.replace("-", "_")) for name in names} | {"ssiu"}
    known |= {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"train"}  # of this repository
    imported = {
        name.split(".")[0]
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert imported - set(sys.stdlib_module_names) <= known

"""SSIU through spandrel, through the ComfyUI folder and through one file: the same output as here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny
from torch import nn
from torchvision_standin import require_spandrel

from ssiu.cli import export as command
from ssiu.errors import OutputError
from ssiu.export.one_file import network_source
from ssiu.models.idsa_net.network import IDSANet
from ssiu.weights.formats import save_authors_weights, save_weights
from ssiu.weights.load import load_model

spandrel = require_spandrel()
from ssiu.export.spandrel_arch import SSIUArch, install  # noqa: E402  (imports spandrel)

ROOT = Path(__file__).parents[2]
install(ignore_duplicates=True)


def same_output(ours: nn.Module, theirs: nn.Module) -> None:
    lr = torch.rand(1, 3, 19, 33)
    with torch.no_grad():
        torch.testing.assert_close(theirs(lr), ours(lr), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_our_files_and_the_authors_load_through_spandrel(tmp_path: Path, scale: int, suffix: str) -> None:
    network, path = tiny(scale).eval(), tmp_path / f"weights{suffix}"
    (save_weights if suffix == ".safetensors" else save_authors_weights)(path, network)
    descriptor = spandrel.ModelLoader("cpu").load_from_file(path)
    assert (descriptor.architecture.id, descriptor.scale, descriptor.purpose) == ("SSIU", scale, "SR")
    assert descriptor.size_requirements.none and descriptor.tags == ["8dim", "3st"]
    same_output(network, descriptor.model.eval())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_shipped_weights_load_through_spandrel(scale: int) -> None:
    path = ROOT / f"pretrain_model/SSIU_x{scale}.safetensors"
    descriptor = spandrel.ModelLoader("cpu").load_from_file(path)
    same_output(load_model(path), descriptor.model.eval())


def test_the_authors_own_training_checkpoint_loads_through_spandrel(reference: Path) -> None:
    path = reference / "official_tiny_x4.pt"
    same_output(load_model(path), spandrel.ModelLoader("cpu").load_from_file(path).model.eval())


def test_nothing_else_is_taken_for_ssiu_and_ssiu_for_nothing_else() -> None:
    ours = tiny(4).state_dict()
    detected = [support.architecture.id for support in spandrel.MAIN_REGISTRY if support.detect(ours)]
    assert detected == ["SSIU"]
    assert not SSIUArch().detect(tiny(4, kind=IDSANet).state_dict())


def test_installing_twice_is_an_error_unless_ignored() -> None:
    with pytest.raises(
        spandrel.DuplicateArchitectureError if hasattr(spandrel, "DuplicateArchitectureError") else ValueError
    ):
        install()
    install(ignore_duplicates=True)


@pytest.mark.parametrize("arguments", [{}, {"attention": "dense", "moe": False}, {"beta_sign": "plus", "skip": "raw"}])
def test_the_one_file_is_the_network_and_needs_torch_alone(tmp_path: Path, arguments: dict) -> None:
    network = tiny(2, **arguments).eval()
    lr = torch.rand(1, 3, 17, 40)
    with torch.no_grad():
        torch.save({"weights": network.state_dict(), "lr": lr, "sr": network(lr)}, tmp_path / "case.pt")
    (tmp_path / "network.py").write_text(network_source())
    code = f"""
import sys, torch
sys.modules["ssiu"] = None
from network import SSIU
case = torch.load("case.pt", weights_only=True)
model = SSIU(2, n_feats=8, n_blocks=3, **{arguments!r}).eval()
model.load_state_dict(case["weights"])
with torch.no_grad():
    print(float((model(case["lr"]) - case["sr"]).abs().max()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == 0


def in_comfyui(folder: Path, weights: Path) -> str:
    """What ComfyUI does: imports the node folder, then loads an upscale model with spandrel."""
    code = f"""
import importlib.util, sys
sys.path.insert(0, {str(ROOT / "tests/helpers")!r})
from torchvision_standin import stand_in
stand_in()
sys.modules["ssiu"] = None
folder = {str(folder)!r}
spec = importlib.util.spec_from_file_location(
    "custom_node", folder + "/__init__.py", submodule_search_locations=[folder]
)
node = importlib.util.module_from_spec(spec)
sys.modules["custom_node"] = node
spec.loader.exec_module(node)
assert node.NODE_CLASS_MAPPINGS == {{}}
import json, spandrel, torch
model = spandrel.ModelLoader("cpu").load_from_file({str(weights)!r})
lr = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(5))
print(json.dumps([model.architecture.name, model(lr).detach().double().sum().item()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_comfyui_folder_loads_weights_without_this_package(tmp_path: Path, capsys) -> None:
    command.main(["comfyui", str(tmp_path / "ssiu_node")])
    assert "custom_nodes" in capsys.readouterr().out
    path = ROOT / "pretrain_model/SSIU_x4.safetensors"
    name, total = json.loads(in_comfyui(tmp_path / "ssiu_node", path))
    lr = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = load_model(path)(lr).clamp(0, 1).double().sum().item()
    assert name == "SSIU" and total == pytest.approx(expected, abs=1e-2)
    command.main(["comfyui", str(tmp_path / "ssiu_node")])  # again: replaces its own files
    (tmp_path / "ssiu_node/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files, such as mine\.txt"):
        command.main(["comfyui", str(tmp_path / "ssiu_node")])


@pytest.mark.parametrize("kind", ["comfyui", "spandrel"])
def test_what_a_system_or_a_killed_export_left_is_no_obstacle(tmp_path: Path, kind: str) -> None:
    for folder in (tmp_path, tmp_path / "tests"):
        folder.mkdir(exist_ok=True)
        for name in (".DS_Store", ".ssiu-0123.part"):
            (folder / name).write_text("hidden")
    command.main([kind, str(tmp_path)])
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob(".*")}
    assert left >= {".DS_Store", "tests/.DS_Store"} and ".ssiu-0123.part" not in left


def test_the_pull_request_folder_is_an_architecture_of_spandrel(tmp_path: Path) -> None:
    """Laid over a copy of spandrel it imports, detects and loads."""
    command.main(["spandrel", str(tmp_path / "pr")])
    shutil.copytree(Path(spandrel.__file__).parent, tmp_path / "libs/spandrel")
    shutil.copytree(tmp_path / "pr/libs/spandrel/spandrel", tmp_path / "libs/spandrel", dirs_exist_ok=True)
    code = f"""
import sys
sys.path[:0] = [{str(tmp_path / "libs")!r}, {str(ROOT / "tests/helpers")!r}]
from torchvision_standin import stand_in
stand_in()
sys.modules["ssiu"] = None
from spandrel.architectures.SSIU import SSIU, SSIUArch
model = SSIU(scale=3, n_feats=8, n_blocks=3)
arch = SSIUArch()
assert arch.detect(model.state_dict())
loaded = arch.load(model.state_dict()).model
assert loaded.arguments() == model.arguments()
assert loaded.hyperparameters == {{**model.arguments()}}, "spandrel's own tests compare these"
print(arch.__class__.__module__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "spandrel.architectures.SSIU", done.stderr[-2000:]

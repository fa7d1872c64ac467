"""prepare --teacher: a network's SR images as a training set, beside the set whose LR images it was given."""

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import in_child, limit_file_size
from tiny import tiny

from ssiu.cli import check as check_command
from ssiu.cli import prepare as command
from ssiu.data.layouts import LAYOUTS, SetFolders
from ssiu.data.pairs import find_pairs
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, OutputError, SaveError
from ssiu.files import held
from ssiu.images.io import read_rgb, save_image
from ssiu.inference.teach import Teacher, teach
from ssiu.inference.upscaler import Upscaler
from ssiu.weights.formats import save_weights
from ssiu.weights.load import load_model

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        save_image(folder / f"{name}.png", RNG.integers(0, 256, (41, 50, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def prepare(tmp_path: Path, photos: Path) -> Callable[..., Path]:
    """`ssiu prepare photos --output mine --scales 2 --teacher net.safetensors ...`; the folder of the taught set."""
    save_weights(tmp_path / "net.safetensors", tiny(2))

    def run(*arguments: object) -> Path:
        command.main([*map(str, (photos, "--output", tmp_path / "mine", "--scales", "2", "--device", "cpu")),
                      "--teacher", str(tmp_path / "net.safetensors"), *map(str, arguments)])  # fmt: skip
        return tmp_path / "mine_net"

    return run


def student_of(tmp_path: Path) -> SetFolders:
    return LAYOUTS[0].at(tmp_path / "mine")


def teacher_of(tmp_path: Path) -> Teacher:
    model = load_model(tmp_path / "net.safetensors")
    return Teacher(tmp_path / "net.safetensors", model, Upscaler(model))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "HR").iterdir()}


@pytest.mark.parametrize("ensemble", [False, True])
def test_the_set_has_the_networks_images_as_hr_and_the_students_as_lr(
    tmp_path: Path, prepare: Callable[..., Path], capsys: pytest.CaptureFixture, ensemble: bool
) -> None:
    folder = prepare(*["--self-ensemble"] * ensemble, "--licence", "MIT", "--origin", "https://example.org/net")
    folder = folder.with_name("mine_net_ensemble") if ensemble else folder
    printed = capsys.readouterr().out
    assert "4 upscaled" in printed and f"'training_dataset=[mine,{folder.name}]'" in printed
    upscaler = Upscaler(load_model(tmp_path / "net.safetensors"), self_ensemble=ensemble)
    true = {pair.name: pair for pair in find_pairs(tmp_path, "mine", 2)}
    pairs = find_pairs(tmp_path, folder.name, 2)
    assert [pair.name for pair in pairs] == NAMES
    for pair in pairs:
        lr = read_rgb(pair.lr)
        assert pair.lr.is_symlink() and np.array_equal(lr, read_rgb(true[pair.name].lr))
        assert np.array_equal(read_rgb(pair.hr), upscaler(lr))
    card = json.loads((folder / "card.json").read_text())
    digest = sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
    assert card.pop("date").count("-") == 2 and card == {
        "teacher": "net.safetensors", "sha256": digest, "network": "SSIU", "licence": "MIT",
        "source": "https://example.org/net", "scale": 2, "self_ensemble": ensemble, "precision": "fp32",
        "lr_images_of": "mine", "images": 4,
    }  # fmt: skip


def test_photographs_that_are_held_out_are_never_taught(tmp_path: Path, prepare: Callable[..., Path]) -> None:
    folder = prepare("--holdout", 1)
    (held_out,) = find_pairs(tmp_path, "mine_val", 2)
    taught = {pair.name for pair in find_pairs(tmp_path, folder.name, 2)}
    assert taught == set(NAMES) - {held_out.name} and json.loads((folder / "card.json").read_text())["images"] == 3
    check_command.main([str(tmp_path), "--leaks", str(tmp_path / "mine/HR")])  # what is taught is no test image
    for root in (tmp_path / "mine_val", tmp_path / "benchmark/set5"):
        hr = root / "HR"
        hr.mkdir(parents=True, exist_ok=True)
        save_image(hr / "x.png", RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        with pytest.raises(ConfigError, match=rf"{root.name} is for evaluation and is never taught"):
            command.main([str(hr), "--output", str(root), "--teacher", str(tmp_path / "net.safetensors")])
        assert not list(root.parent.glob(f"{root.name}_net*"))


def test_a_second_call_does_what_is_missing_or_older_than_its_lr_image(
    tmp_path: Path, photos: Path, prepare: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = Upscaler.__call__

    def stopped(self: Upscaler, *arguments: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Upscaler, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare()
    monkeypatch.undo()
    first = times(tmp_path / "mine_net")
    assert 1 <= len(first) < 4
    folder = prepare("--licence", "MIT")
    second = times(folder)
    assert len(second) == 4 and {name: second[name] for name in first} == first
    save_image(photos / "e.png", RNG.integers(0, 256, (41, 50, 3), dtype=np.uint8))
    lr = tmp_path / "mine/LR_bicubic/X2/ax2.png"
    save_image(lr, RNG.integers(0, 256, (20, 25, 3), dtype=np.uint8))
    third = times(prepare())
    assert third.keys() - second.keys() == {"e.png"} and {n for n in second if third[n] != second[n]} == {"a.png"}
    assert json.loads((folder / "card.json").read_text())["licence"] == "MIT"
    assert len(find_pairs(tmp_path, folder.name, 2)) == 5


def test_what_another_teacher_or_nobody_made_is_left_alone(tmp_path: Path, prepare: Callable[..., Path]) -> None:
    folder = prepare()
    before, file = times(folder), (tmp_path / "net.safetensors").read_bytes()
    save_weights(tmp_path / "net.safetensors", tiny(2, seed=1))
    with pytest.raises(OutputError, match=r"mine_net is by another teacher \(sha256 .*\); remove it, or rename"):
        prepare()
    (tmp_path / "net.safetensors").write_bytes(file)
    with pytest.raises(OutputError, match=r"precision fp32, not bf16"):
        prepare("--precision", "bf16")
    save_image(folder / "HR/mine.png", RNG.integers(0, 256, (41, 50, 3), dtype=np.uint8))
    with pytest.raises(OutputError, match=r"images that mine does not have: mine\.png"):
        prepare()
    (folder / "HR/mine.png").unlink()
    (folder / "card.json").write_text("[]")
    with pytest.raises(BadInputError, match=r"card\.json is not a card"):
        prepare()
    (folder / "card.json").unlink()
    with pytest.raises(OutputError, match="images that no teacher made"):
        prepare()
    assert times(folder) == before


def test_one_image_that_fails_does_not_stop_the_others(tmp_path: Path, prepare: Callable[..., Path]) -> None:
    prepare()
    lr = tmp_path / "mine/LR_bicubic/X2"
    (lr / "bx2.png").write_bytes((lr / "bx2.png").read_bytes()[:-30])
    for path in (tmp_path / "mine_net/HR").iterdir():
        path.unlink()
    with pytest.raises(BadInputError, match=r"1 of 4 images could not be upscaled; .*bx2\.png: damaged"):
        teach(student_of(tmp_path), teacher_of(tmp_path))
    assert set(times(tmp_path / "mine_net")) == {"a.png", "c.png", "d.png"}


def test_a_full_disk_and_a_second_teacher_end_with_one_line(tmp_path: Path, prepare: Callable[..., Path]) -> None:
    folder = prepare()
    for path in (folder / "HR").iterdir():
        path.unlink()

    def task() -> None:
        limit_file_size(4000, kill=False)
        teach(student_of(tmp_path), teacher_of(tmp_path))

    code, message = in_child(task)
    assert code == SaveError.exit_code and "cannot write" in message and times(folder) == {}
    with held(folder / ".lock", folder, "", ""), pytest.raises(BusyError, match="another teacher writes there"):
        prepare()
    assert len(times(prepare())) == 4


def test_a_teacher_of_another_scale_or_of_ones_own_code_or_none(
    tmp_path: Path, photos: Path, prepare: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=r"--scales: .*net\.safetensors upscales by 2; add 2"):
        prepare("--scales", 3, 4)
    assert not (tmp_path / "mine").exists(), "said before any work"
    (tmp_path / "nearest.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Nearest(nn.Module):\n"
        "    def __init__(self, scale):\n        super().__init__()\n        self.scale = scale\n"
        "        self.gain = nn.Parameter(torch.ones(1))\n"
        "    def forward(self, lr):\n"
        "        return self.gain * nn.functional.interpolate(lr, scale_factor=self.scale)\n"
    )
    (tmp_path / "run.yml").write_text(f"model: {tmp_path}/nearest.py:Nearest\nscale: 2\n")
    torch.save({"gain": torch.ones(1)}, tmp_path / "net.pt")
    prepare("--teacher", tmp_path / "net.pt", "--config", tmp_path / "run.yml")
    for pair in find_pairs(tmp_path, "mine_net", 2):
        assert np.array_equal(read_rgb(pair.hr), read_rgb(pair.lr).repeat(2, 0).repeat(2, 1))
    assert "does not say under which licence net.pt is" in capsys.readouterr().out
    with pytest.raises(MissingInputError, match="absent"):
        prepare("--teacher", tmp_path / "absent.pth")
    with pytest.raises(ConfigError, match="--self-ensemble is for --teacher"):
        command.main([str(photos), "--output", str(tmp_path / "other"), "--self-ensemble"])


def test_torch_is_needed_for_a_teacher_only(tmp_path: Path, photos: Path) -> None:
    code = "import sys; from ssiu.cli.prepare import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    options = [str(photos), "--output", str(tmp_path / "mine"), "--scales", "2", "--holdout", "1"]
    subprocess.run([sys.executable, "-c", code, *options], cwd=ROOT, check=True, capture_output=True)
    assert "card.json" not in {path.name for path in tmp_path.rglob("*")}

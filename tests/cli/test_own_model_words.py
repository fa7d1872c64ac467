"""A model of one's own is named on the command line of every command, without a YAML file of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_sets import photo

from ssiu.cli import benchmark, export, figures, prepare, upscale
from ssiu.errors import ConfigError
from ssiu.images.io import read_rgb, save_image
from ssiu.models import SSIU
from ssiu.weights.formats import save_weights

NET = """
from torch import nn

class MyNet(nn.Sequential):
    def __init__(self, upscale, width=4):
        super().__init__(nn.Conv2d(3, 3 * upscale**2, 3, padding=1), nn.PixelShuffle(upscale))
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What names it at x2; the current folder has my_net.py, its weights net.pt, and cup.png."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_net.py").write_text(NET)
    save_image(folder / "cup.png", photo("coffee", 16, 20))
    conv = torch.nn.Conv2d(3, 12, 3)
    torch.save({"params_ema": {f"module.0.{k}": v for k, v in conv.state_dict().items()}}, folder / "net.pt")
    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        yield ["model=my_net.py:MyNet", "scale=2"]
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("_ssiu_")]:
        del sys.modules[name]


def test_it_upscales_wherever_the_words_stand(words: list[str]) -> None:
    upscale.main(["cup.png", *words, "--output", "a", "--weights", "net.pt"])
    upscale.main(["--weights", "net.pt", words[0], "model_args={width: 8}", "--scale", "2", "cup.png", "--output", "b"])
    first, second = (read_rgb(Path(folder) / "cup.png") for folder in "ab")
    assert first.shape == (32, 40, 3) and (first == second).all()


def test_it_is_converted_and_its_copy_upscales_alike(words: list[str]) -> None:
    export.main(["safetensors", "net.pt", "net.safetensors", *words])
    upscale.main(["cup.png", *words, "--output", "c", "--weights", "net.safetensors"])
    upscale.main(["cup.png", *words, "--output", "d", "--weights", "net.pt"])
    assert (read_rgb(Path("c/cup.png")) == read_rgb(Path("d/cup.png"))).all()


def test_it_is_counted_over_a_shipped_config(words: list[str], capsys: pytest.CaptureFixture) -> None:
    argv = ["complexity", "--config", "SSUFSR_light_x2", "--size", "64", "64", "model=my_net.py:MyNet"]
    benchmark.main([*argv, "device=cpu"])
    assert "MyNet x2: LR 32x32, padded to 32x32" in capsys.readouterr().out


def test_its_attribution_stands_beside_that_of_ours(words: list[str], capsys: pytest.CaptureFixture) -> None:
    save_weights("ours.safetensors", SSIU(scale=2, n_feats=8, num_heads=2, n_blocks=3))
    argv = ["lam", "--lr", "cup.png", "--box", "4,4,8,8", "ours.safetensors", "mine=net.pt", "--output", "lam.png"]
    figures.main([*argv, *words])
    printed = capsys.readouterr().out
    assert "ours: diffusion index" in printed and "mine: diffusion index" in printed and Path("lam.png").is_file()


def test_it_teaches(words: list[str]) -> None:
    Path("photos").mkdir()
    save_image(Path("photos/cup.png"), photo("coffee", 24, 24))
    argv = ["photos", "--output", "data/mine", "--scales", "2", "--teacher", "net.pt", "--device", "cpu"]
    prepare.main([*argv, *words])
    assert [path.name for path in Path("data/mine_net/HR").iterdir()] == ["cup.png"]


@pytest.mark.parametrize(
    ("command", "argv", "reason"),
    [
        (
            upscale,
            ["cup.png", "--output", "e", "scale=2"],
            r"scale=2 is for a model of your own; .*model=FILE\.py:Class",
        ),
        (upscale, ["cup.png", "--output", "e", "--scale", "3", "scale=2", "model=my_net.py:MyNet"], "--scale 3"),
        (upscale, ["cup.png", "--output", "e", "model=my_net.py"], "command line: key 'model': expected one of SSIU"),
        (prepare, ["photos", "--output", "f", "model=my_net.py:MyNet"], r"model=\.\.\. is for --teacher"),
    ],
)
def test_words_that_fit_nothing_are_one_line(words: list[str], command: object, argv: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        command.main(argv)


def test_a_file_may_be_called_like_such_a_word(words: list[str]) -> None:
    save_image(Path("scale=2.png"), read_rgb(Path("cup.png")))
    upscale.main(["scale=2.png", *words, "--output", "g", "--weights", "net.pt"])
    assert Path("g/scale=2.png").is_file()

"""The command `ssiu upscale` with small weights, and something to upscale."""

from pathlib import Path

import pytest
from small_sets import photo
from tiny import tiny

from ssiu.cli import upscale as upscale_command
from ssiu.cli.console import run_cli
from ssiu.images.io import save_image
from ssiu.weights.formats import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny_x2.safetensors"
    save_weights(path, tiny(2))
    return path


@pytest.fixture
def command(weights: Path, capsys: pytest.CaptureFixture):
    """Runs the script with small weights: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        words += [] if "--weights" in words else ["--weights", str(weights)]
        with pytest.raises(SystemExit) as ended:
            run_cli(upscale_command.main, [*words, "--device", "cpu"])
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three images."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        save_image(folder / f"{name}.png", photo("chelsea", 37, 50))
    return folder

"""ssiu explain, from a folder and from a config."""

from pathlib import Path

import pytest
from small_sets import small_set

from ssiu.cli import explain
from ssiu.config.load import load_config
from ssiu.data.test_sets import load_test_sets
from ssiu.errors import ConfigError, MissingInputError
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import rounded
from ssiu.evaluation.scores import Evaluation
from ssiu.weights.load import load_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_set(tmp_path_factory.mktemp("data"), scale=4)


@pytest.fixture(scope="module")
def evaluation(root: Path) -> Evaluation:
    """What our x4 weights score, as `ssiu test` does; the SR images lie in ``root``/sr."""
    config = load_config("SSUFSR_light_x4", [f"data_path={root}", "eval_sets=[Set5]"])
    return evaluate(load_model(4), load_test_sets(config), save_to=root / "sr")


def printed(evaluation: Evaluation, protocol: str) -> str:
    psnr, ssim = rounded(evaluation.mean("Set5", protocol), protocol)
    return f"{psnr:.2f}/{ssim:.4f}"


def first_row(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().out.splitlines()
    return lines[next(number for number, line in enumerate(lines) if line.startswith("---")) + 1]


def test_the_cell_that_our_x4_weights_print_under_official_has_the_offset(
    root: Path, evaluation: Evaluation, capsys
) -> None:
    config = ["--config", "SSUFSR_light_x4", f"data_path={root}", "eval_sets=[Set5]", "device=cpu"]
    explain.main([*config, "--claimed", printed(evaluation, "official")])
    assert first_row(capsys).startswith("official (luma + 4080: the offset 16 times 255)")
    explain.main([*config, "--claimed", printed(evaluation, "standard")])
    assert first_row(capsys).startswith("standard;")


def test_a_folder_of_images_is_explained_and_a_made_up_cell_is_not(root: Path, evaluation: Evaluation, capsys) -> None:
    folders = [str(root / "sr/Set5"), str(root / "benchmark/Set5/HR"), "--scale", "4", "--claimed"]
    explain.main([*folders, printed(evaluation, "standard")])
    out = capsys.readouterr().out
    assert "standard;" in out and "--config also tries what is scored without clamping or rounding" in out
    psnr, ssim = evaluation.mean("Set5", "standard")
    explain.main([*folders, f"{psnr + 0.17:.2f}/{ssim - 0.0023:.4f}"])
    assert first_row(capsys).startswith("none")


def test_what_cannot_be_meant_is_one_line(root: Path) -> None:
    sr, hr = str(root / "sr/Set5"), str(root / "benchmark/Set5/HR")
    claimed = ["--claimed", "32.21/0.8948"]
    for arguments in ([sr, hr], [sr, "--scale", "4"], ["--scale", "4"]):
        with pytest.raises(ConfigError, match="expected SR_DIR HR_DIR --scale S, or --config FILE"):
            explain.main([*arguments, *claimed])
    with pytest.raises(ConfigError, match="a printed cell is of one set"):
        explain.main(["--config", "SSUFSR_light_x4", f"data_path={root}", *claimed])
    with pytest.raises(ConfigError, match="--scale and --suffix are for SR_DIR"):
        explain.main(["--config", "SSUFSR_light_x4", "--scale", "4", *claimed])
    with pytest.raises(MissingInputError):
        explain.main([str(root / "absent"), hr, "--scale", "4", *claimed])

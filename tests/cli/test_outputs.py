"""Where a command is to write is looked at before its work."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ssiu.cli import benchmark, download, export, figures, reproduce, score, table
from ssiu.cli import test as test_command
from ssiu.cli.console import run_cli
from ssiu.errors import OutputError

LAM = ("lam", "--lr", "absent.png", "--box", "0,0,8,8", "absent.safetensors", "--output")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (benchmark.main, ("complexity", "--json", "")),
        (benchmark.main, ("complexity", "--markdown", "")),
        (benchmark.main, ("gpu", "--toy", "--output", "")),
        (download.main, ("weights", "--to", "")),
        (export.main, ("onnx", "absent.safetensors", "")),
        (export.main, ("comfyui", "")),
        (figures.main, (*LAM, "")),
        (reproduce.main, ("--output", "")),
        (score.main, ("sr", "hr", "--scale", "2", "--json", "")),
        (table.main, ("--output", "")),
        (test_command.main, ("--config", "quickstart", "--output", "")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_empty_name_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, main, arguments: Sequence[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_cli(main, arguments)
    assert ended.value.code == 2 and "expected a name, got ''" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (test_command.main, ("--config", "quickstart", "--shown", "-1"), "'-1': expected a number of images or 'all'"),
        (test_command.main, ("--config", "quickstart", "--shown", "few"), "'few': expected a number of images or"),
        (figures.main, (*LAM[:4], "1,2,3", "w.pt"), "'1,2,3': expected left,top,width,height in pixels"),
    ],
    ids=["-1", "few", "box"],
)
def test_what_a_value_should_be_is_said(capsys: pytest.CaptureFixture, main, arguments, message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run_cli(main, arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_a_figure_that_cannot_be_drawn_is_refused_before_its_inputs_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for name, message in (("map.jpg", "ends in .png, .pdf, .svg"), ("file/map.png", "cannot create the output folder")):
        with pytest.raises(OutputError, match=message):
            figures.main([*LAM, str(tmp_path / name)])


def test_the_folder_of_a_benchmark_is_made_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="cannot create the output folder file"):
        benchmark.main(["complexity", "--config", "absent.yml", "--json", "file/x.json"])
    benchmark.main(["complexity", "--config", "quickstart", "--json", "new/x.json", "--markdown", "new/x.md"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["x.json", "x.md"]

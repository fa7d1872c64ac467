"""The data benchmark runs, in one process, and its tables hold what the documentation quotes."""

from pathlib import Path

import pytest

from ssiu.bench import data
from ssiu.cli import benchmark

ROOT = Path(__file__).parents[2]


def test_every_variant_and_every_step_has_a_row(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "SIZE", (60, 80))
    monkeypatch.setattr(data, "LEAST_SECONDS", 0)
    options = "--scale 2 --patch-size 16 --batch-size 4 --threads 1 --images 2 --samples 8 --markdown"
    benchmark.main(["data", *options.split(), str(tmp_path / "data.md")])
    printed = capsys.readouterr().out
    for text in (
        "decode both PNG files",
        "read both whole .npy files",
        "memory-mapped crops",
        "1 loader workers",
        "80x60",
    ):
        assert text in printed
    for text in ("imresize to x2", "encode x4", "all of it"):
        assert text in (tmp_path / "data.md").read_text()


def test_an_unknown_subcommand_is_refused(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["everything"])
    assert "data" in capsys.readouterr().err

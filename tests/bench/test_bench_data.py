"""The data benchmark runs, in one process, and its tables hold what the documentation quotes."""

from pathlib import Path

import pytest

from ssiu.bench import data
from ssiu.cli import benchmark
from ssiu.data import pairs

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


def test_of_a_large_set_the_start_and_every_kind_of_visit_have_a_row(monkeypatch, capsys) -> None:
    monkeypatch.setattr(data, "SIZE", (60, 80))
    monkeypatch.setattr(data, "DISTINCT", 2)
    monkeypatch.setattr(data, "LARGE_SET", 30)
    monkeypatch.setattr(pairs, "LARGE_SET", 30)
    options = "--scale 2 --patch-size 16 --batch-size 4 --threads 1 --images 31 --samples 8"
    benchmark.main(["data", *options.split()])
    printed = capsys.readouterr().out
    for text in (
        "The start on 31 images",
        "s to the first batch",
        "first visit: decoded into the cache",
        "visited again by another process",
        "all decoded before the run",
        "cache_gb: 0",
        "cache_gb where half fit: visited again",
        "Visits of 8 images of 80x60",
    ):
        assert text in printed


def test_an_unknown_subcommand_is_refused(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["everything"])
    assert "data" in capsys.readouterr().err

"""The files of ``ssiu benchmark --json``: numbers are numbers, and a column has one type."""

import json
from pathlib import Path

import pytest

from ssiu.bench import data
from ssiu.cli import benchmark

CONFIG = str(Path(__file__).parents[2] / "configs/quickstart.yml")
KEYS = ("n_feats=8", "n_blocks=3", "device=cpu")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("complexity", "--config", CONFIG, *KEYS),
            {"parameters": int, "GMACs": float, "convs": int, "ms": None, "peak MiB": None},
        ),
        (
            ("inference", "--config", CONFIG, "--size", "16", "16", "--turns", "1", *KEYS),
            {"median ms": float, "times faster": float, "peak MiB": float},
        ),
        (
            ("data", "--scale", "2", "--patch-size", "16", "--batch-size", "4", "--threads", "1", "--images", "2"),
            {
                "samples/s": float,
                "times faster": float,
                "ms to feed a step of 4": float,
                "HR megapixels/s per core": float,
                "core minutes for DF2K x2 + x3 + x4": float,
            },
        ),
    ],
    ids=["complexity", "inference", "data"],
)
def test_numbers_are_numbers_and_a_column_has_one_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: dict[str, type]
) -> None:
    monkeypatch.setattr(data, "SIZE", (60, 80))
    monkeypatch.setattr(data, "LEAST_SECONDS", 0)
    benchmark.main([*arguments, "--json", str(tmp_path / "tables.json")])
    found = {}
    for table in json.loads((tmp_path / "tables.json").read_text())["tables"]:
        for column in table["rows"][0]:
            found[column] = {type(row[column]) for row in table["rows"] if row[column] is not None}
    assert all(len(types) <= 1 for types in found.values()), found
    assert {column: next(iter(found[column]), None) for column in expected} == expected

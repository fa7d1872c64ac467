"""The folder `test.py` writes: config.yml, summary.json, per_image.csv, report.html and images/{set}/."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssiu.config import Config
from ssiu.data.test_sets import BenchmarkSet
from ssiu.errors import OutputError
from ssiu.evaluation.evaluate import Evaluation
from ssiu.files import make_folder, write_atomically
from ssiu.report.page import PIXELS, choose, report_page
from ssiu.report.tables import Table

CONTENTS = {"config.yml", "summary.json", "per_image.csv", "report.html", "images"}


def open_results(folder: Path, config: Config) -> Path:
    """Makes ``folder`` ready: new, empty, or emptied of an earlier run's results. Returns it.

    The results of a run belong together, so those of an earlier run are removed before the next ones come. Nothing
    else is: a folder that holds anything `test.py` does not write, or no ``config.yml``, raises OutputError (73).
    """
    make_folder(folder)
    if folder.is_symlink():
        raise OutputError(f"{folder} is a symbolic link; name the folder it points to, or another one")
    there = {path.name for path in folder.iterdir()}
    if there and not {"config.yml"} <= there <= CONTENTS:
        others = ", ".join(sorted(there - CONTENTS)[:5]) or "no config.yml"
        raise OutputError(f"{folder} is not a results folder ({others}); choose an empty folder with --output DIR")
    for name in there - {"config.yml"}:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    write_atomically(folder / "config.yml", config.to_yaml().encode())
    return folder


def write_results(
    folder: Path,
    table: Table,
    facts: dict[str, str],
    summary: dict[str, Any],
    evaluation: Evaluation,
    bicubic: Evaluation,
    test_sets: Sequence[BenchmarkSet],
) -> None:
    """Writes ``summary.json``, ``per_image.csv`` and ``report.html``, whose images are those of ``folder``/images.

    ``table`` and ``facts`` (what was run, by name) are shown on the page. Raises SaveError (74) when writing fails.
    """
    write_atomically(folder / "per_image.csv", evaluation.per_image_csv().encode())
    images = folder / "images"
    shown = []
    if images.is_dir():
        pixels = PIXELS // len(test_sets)
        shown = [choice for each in test_sets for choice in choose(each, evaluation, bicubic, images, pixels)]
    page = report_page(table, facts, summary, evaluation, bicubic, shown, Path("images") if shown else None)
    write_atomically(folder / "report.html", page.encode())
    write_atomically(folder / "summary.json", summary_json(summary))  # last: where it is, the rest is


def summary_json(summary: dict[str, Any]) -> bytes:
    """The text of ``summary.json``."""
    return (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()

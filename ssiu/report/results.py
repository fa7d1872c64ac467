"""The folder `test.py` writes: config.yml, summary.json, per_image.csv, report.html and images/{set}/."""

import json
import shutil
from pathlib import Path
from typing import Any

from ssiu.config import Config
from ssiu.errors import OutputError
from ssiu.evaluator import Evaluation
from ssiu.files import make_folder, write_atomically

CONTENTS = {"config.yml", "summary.json", "per_image.csv", "report.html", "images"}


def open_results(folder: Path, config: Config) -> Path:
    """Makes ``folder`` ready: new, empty, or emptied of an earlier run's results. Returns it.

    The results of a run belong together, so those of an earlier run are removed before the next ones come. Nothing
    else is: a folder that holds anything `test.py` does not write, or no ``config.yml``, raises OutputError (73).
    """
    if folder.is_symlink():
        raise OutputError(f"{folder} is a symbolic link; name the folder it points to, or another one")
    make_folder(folder)
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


def write_results(folder: Path, evaluation: Evaluation, summary: dict[str, Any]) -> None:
    """Writes ``summary.json`` and ``per_image.csv``; raises SaveError (74) when that fails."""
    write_atomically(folder / "per_image.csv", evaluation.per_image_csv().encode())
    write_atomically(folder / "summary.json", summary_json(summary))


def summary_json(summary: dict[str, Any]) -> bytes:
    """The text of ``summary.json``."""
    return (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()

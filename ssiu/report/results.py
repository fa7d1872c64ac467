"""The folder `test.py` writes: config.yml, summary.json, per_image.csv, report.html and images/{set}/."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ssiu.config.schema import Config
from ssiu.data.test_sets import BenchmarkSet
from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.evaluation.evaluate import image_file
from ssiu.evaluation.scores import PER_IMAGE, SUMMARY, Evaluation, read_per_image
from ssiu.files import contents, held, make_folder, remove_leftovers, write_atomically
from ssiu.images.io import image_size
from ssiu.report.results_page import PIXELS, SHOWN, OtherRun, choose, report_page
from ssiu.report.scored import ScoredNetwork
from ssiu.weights.hub import plain_name

CONTENTS = {"config.yml", SUMMARY, PER_IMAGE, "report.html", "images"}
LOCK = ".lock"


def results_name(weights: Path, scale: int) -> str:
    """The name of a results folder: that of the training run and its checkpoint, else of the weights file.

    ``logs/mine/models/best.pt`` gives ``mine_best_x2``, ``pretrain_model/SSIU_x2.safetensors`` ``SSIU_x2``, and
    ``hf:owner/SSIU_x2`` too.
    """
    run = weights.absolute().parent.parent
    name = f"{run.name}_{weights.stem}" if (run / "metrics.jsonl").is_file() else plain_name(weights)
    return name if re.search(rf"x{scale}(?!\d)", name, re.IGNORECASE) else f"{name}_x{scale}"


@contextlib.contextmanager
def open_results(folder: Path, config: Config, overwrite: bool = False) -> Iterator[Path]:
    """Holds ``folder``, new, empty or emptied of an unfinished run's results, while a run writes into it.

    The results of a run belong together, so with ``overwrite`` an earlier run's are removed before the next ones come;
    without it a folder with finished results raises OutputError (73). Nothing else is removed: a folder that holds
    anything `test.py` does not write, or no ``config.yml``, raises OutputError (73); names that begin with a dot do not
    count. BusyError (75) while another process writes there.
    """
    make_folder(folder)
    if folder.is_symlink():
        raise OutputError(f"{folder} is a symbolic link; name the folder it points to, or another one")
    there = contents(folder)
    if there and not {"config.yml"} <= there <= CONTENTS:
        others = ", ".join(sorted(there - CONTENTS)[:5]) or "no config.yml"
        raise OutputError(f"{folder} is not a results folder ({others}); choose an empty folder with --output DIR")
    in_use = f"{folder} is being written by another test run; wait for it, or give --output DIR"
    with held(folder / LOCK, folder, in_use, "--output DIR"):
        remove_leftovers(folder)
        there = contents(folder)  # another run may have finished meanwhile
        if SUMMARY in there and not overwrite:
            raise OutputError(f"{folder} holds results already; --output DIR keeps both, --overwrite replaces them")
        for name in sorted(there & CONTENTS - {"config.yml"}, key=SUMMARY.__ne__):  # that one first: not whole
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        write_atomically(folder / "config.yml", config.to_yaml().encode())
        yield folder


def write_results(
    folder: Path,
    scored: ScoredNetwork,
    facts: dict[str, str],
    *,
    shown: int | None = SHOWN,
    other: OtherRun | None = None,
) -> None:
    """Writes ``summary.json``, ``per_image.csv`` and ``report.html``, whose images are those of ``folder``/images.

    ``facts`` (what was run, by name) are shown on the page, with up to ``shown`` images of each set (None = all) and
    those of ``other`` beside them. The numbers come first: they are kept whatever becomes of the page. Raises SaveError
    (74) when writing fails.
    """
    write_atomically(folder / PER_IMAGE, scored.evaluation.per_image_csv().encode())
    write_atomically(folder / SUMMARY, summary_json(scored.summary()))  # last: with it, all is there
    images = folder / "images"
    choices = []
    for each in scored.test_sets if images.is_dir() else ():
        pixels = PIXELS // len(scored.test_sets) // min(SHOWN, len(each))
        choices += choose(each, scored.evaluation, scored.bicubic, images, pixels, shown, other)
    page = report_page(scored, facts, choices, Path("images") if images.is_dir() else None, other)
    write_atomically(folder / "report.html", page)


def other_results(folder: Path, test_sets: Sequence[BenchmarkSet]) -> OtherRun:
    """The SR images and scores of an earlier run in ``folder``, to be shown beside a new one on ``test_sets``.

    Raises MissingInputError (66) where it has no results, or not those of one of the images, BadInputError (65) for
    a per_image.csv that is none, or an image of another size.
    """
    name = folder.absolute().name
    found = read_per_image(folder / PER_IMAGE)
    tested = {f"{test_set.name}/{pair.name}" for test_set in test_sets for pair in test_set.pairs}
    found = Evaluation([image for image in found.images if image.key in tested], found.protocols)
    other = OtherRun(f"{name} (beside)" if name in ("bicubic", "SR", "HR", "error") else name, folder / "images", found)
    for test_set in test_sets:
        for pair in test_set.pairs:
            image = other.images / image_file(test_set.name, pair.name, test_set.scale)
            if f"{test_set.name}/{pair.name}" not in other.scores or not image.is_file():
                raise MissingInputError(
                    f"{folder} has no image of {test_set.name}/{pair.name} at x{test_set.scale} ({image}); "
                    "test that run on the same sets first, with save_image=true"
                )
            size, expected = image_size(image), tuple(side * test_set.scale for side in pair.lr_size)
            if size != expected:
                raise BadInputError(
                    f"{image} is {size[1]}x{size[0]}, expected {expected[1]}x{expected[0]}; test that run again"
                )
    return other


def summary_json(summary: dict[str, Any]) -> bytes:
    """The text of ``summary.json``."""
    return (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()

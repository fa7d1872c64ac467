"""The SSIU rows of Table I computed again, cell by cell, and compared with what the paper prints.

A cell is one test set at one scale. Each is kept in a file of its own as soon as it is scored, in the format of
``summary.json``, and is computed again only when the weights or the images have changed.
"""

import hashlib
import json
import logging
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssiu.data.catalog import MOD12, usual_name
from ssiu.data.test_sets import BenchmarkSet
from ssiu.device import describe
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import PROTOCOLS, Score, rounded
from ssiu.evaluation.scores import NO_SUMMARY, summary_means
from ssiu.files import make_folder, write_atomically
from ssiu.report.pages import encoded, tables_page
from ssiu.report.paper.published import published
from ssiu.report.results import summary_json
from ssiu.report.tables import ABSENT, Cell, Number, Table, cell
from ssiu.weights.formats import Weights

log = logging.getLogger("ssiu")

MODEL = "SSIU"


@dataclass(frozen=True)
class CellResult:
    """One test set at one scale: our scores under both protocols, beside the paper's under ``official``."""

    scale: int
    set_name: str  # with the copy, such as "Set5 mod12"
    images: int
    ours: dict[str, Score]
    paper: Score | None
    computed_with: str = "not recorded"  # by an earlier version

    @property
    def agreement(self) -> tuple[bool, bool]:
        """Whether PSNR and SSIM are the printed ones to the last digit; never where the paper has none."""
        psnr, ssim = self.difference or (math.nan, math.nan)
        return psnr == 0, ssim == 0

    @property
    def difference(self) -> tuple[float, float] | None:
        """Ours less the paper's PSNR and SSIM, both as printed."""
        if self.paper is None:
            return None
        ours = rounded(self.ours["official"], "official")
        return ours.psnr - self.paper.psnr, ours.ssim - self.paper.ssim

    def document(self) -> dict[str, Any]:
        """For JSON."""
        agrees = dict(zip(Score._fields, self.agreement, strict=True))
        difference = self.difference and dict(zip(Score._fields, self.difference, strict=True))
        scores = {protocol: score._asdict() for protocol, score in self.ours.items()}
        return {
            "scale": self.scale, "set": self.set_name, "images": self.images, **scores,
            "paper": self.paper and self.paper._asdict(), "difference": difference, "agrees": agrees,
            "computed_with": self.computed_with,
        }  # fmt: skip


def score_cell(
    folder: Path, network: nn.Module, weights: Weights, test_set: BenchmarkSet, device: torch.device
) -> CellResult:
    """Scores ``network`` of ``weights`` on a test set, or reads the same images' scores by them from ``folder``.

    A file there that is damaged is computed again. Errors as `evaluate`.
    """
    path = make_folder(folder) / f"x{test_set.scale}_{test_set.name}.json"
    images = _images_digest(test_set)
    summary = _kept(path, weights.sha256, images, test_set.name)
    log.info(
        "x%d %s: %s", test_set.scale, test_set.name, "computing" if summary is None else "kept from an earlier run"
    )
    if summary is None:
        evaluation = evaluate(network, [test_set])
        summary = evaluation.summary(
            model=MODEL, scale=test_set.scale, checkpoint=str(weights.path), weights_sha256=weights.sha256,
            precision="fp32", self_ensemble=False,
        ) | {"images_digest": images, "computed_with": environment(device)}  # fmt: skip
        write_atomically(path, summary_json(summary))
    _, paper = published(MODEL, test_set.scale)
    return CellResult(
        test_set.scale, test_set.name, len(test_set), _scores(summary, test_set.name),
        paper.get(usual_name(test_set.name)), str(summary.get("computed_with", CellResult.computed_with)),
    )  # fmt: skip


def reproduction_table(cells: Sequence[CellResult], absent: Sequence[str] = (), authors: bool = True) -> Table:
    """A row per cell; ``absent`` are the sets that are not on disk, which is said below.

    ``authors`` says whether the weights are theirs, whose numbers the paper prints.
    """
    header = [
        "PSNR dB / SSIM", "images", "paper (official)", "ours (official)", "difference", "agrees", "ours (standard)"
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            f"x{each.scale} {each.set_name}", Number(each.images, "d"), cell(each.paper, "standard"),
            cell(each.ours["official"], "official"), _difference(each), _agreement(each),
            cell(each.ours["standard"], "standard"),
        ]
        for each in cells
    ]  # fmt: skip
    notes = [
        verdict(cells) if authors else distance(cells),
        "The paper's row was computed by the authors' code, so ours under official stands beside it: its SSIM is 0.001 "
        "to 0.005 higher and its means are rounded up. Ours under standard compares with other papers.",
    ]
    if any(each.set_name.endswith(MOD12) for each in cells):
        notes.append("mod12: HR cropped to multiples of 12; which copy the paper's numbers are from is not known.")
    if absent:
        notes.append(f"Not on disk, so not computed: {', '.join(absent)}.")
    return Table(f"Table I, the rows of {MODEL}", header, rows, tuple(notes))


def verdict(cells: Sequence[CellResult]) -> str:
    """``7 of 9 cells agree with the paper to the printed digit (PSNR 8, SSIM 7).``"""
    compared = [each.agreement for each in cells if each.paper is not None]
    both = sum(psnr and ssim for psnr, ssim in compared)
    psnr, ssim = (sum(column) for column in zip(*compared, strict=True)) if compared else (0, 0)
    return f"{both} of {len(compared)} cells agree with the paper to the printed digit (PSNR {psnr}, SSIM {ssim})."


def distance(cells: Sequence[CellResult]) -> str:
    """How far other weights than the authors' are from the paper's numbers, which they need not reach."""
    differences = [each.difference for each in cells if each.difference]
    line = "These weights are this repository's, not the authors', so the paper's numbers need not come out"
    if not differences:
        return f"{line}."
    psnr, ssim = ((min(column), max(column)) for column in zip(*differences, strict=True))
    return f"{line}: PSNR differs by {psnr[0]:+.2f} to {psnr[1]:+.2f} dB, SSIM by {ssim[0]:+.4f} to {ssim[1]:+.4f}."


def write_reproduction(
    folder: Path, table: Table, cells: Sequence[CellResult], facts: dict[str, str], tables: Sequence[Table]
) -> None:
    """Writes ``reproduce.md``, ``reproduce.json`` and ``reproduce.html``, in which ``tables``, all of Table I, follow.

    ``facts`` (what was run, by name) stand in all three. Raises SaveError (74) when writing fails.
    """
    listed = "".join(f"\n- {key}: `{value}`" for key, value in facts.items())
    document = {**facts, "verdict": table.notes[0], "cells": [each.document() for each in cells]}
    page = tables_page(f"{MODEL}: Table I computed again", (table, *tables), facts)
    write_atomically(folder / "reproduce.md", encoded(f"{table.markdown()}{listed}\n"))
    write_atomically(folder / "reproduce.html", page)
    write_atomically(folder / "reproduce.json", (json.dumps(document, indent=2) + "\n").encode())


def environment(device: torch.device) -> str:
    """What numbers are computed on."""
    return f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, {describe(device)}"


def _difference(each: CellResult) -> Cell:
    if each.difference is None:
        return ABSENT
    psnr, ssim = each.difference
    return Number(psnr, "+.2f"), Number(ssim, "+.4f")


def _agreement(each: CellResult) -> str:
    if each.paper is None:
        return ABSENT
    return {(True, True): "yes", (True, False): "PSNR", (False, True): "SSIM", (False, False): "no"}[each.agreement]


def _images_digest(test_set: BenchmarkSet) -> str:
    """Changes when a file of the set does: names, sizes and times."""
    status = [(path, path.stat()) for pair in test_set.pairs for path in (pair.lr, pair.hr) if path]
    lines = (f"{path.name} {each.st_size} {each.st_mtime_ns}" for path, each in status)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _scores(summary: dict[str, Any], set_name: str) -> dict[str, Score]:
    """Our scores by protocol; errors as `summary_means`."""
    means = summary_means(summary)
    return {protocol: means[protocol][set_name] for protocol in PROTOCOLS}


def _kept(path: Path, sha256: str, images: str, set_name: str) -> dict[str, Any] | None:
    """The summary of an earlier run on the same weights and images, or None."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        same = (summary["weights_sha256"], summary["images_digest"]) == (sha256, images)
        return summary if same and _scores(summary, set_name) else None
    except (OSError, *NO_SUMMARY):
        return None

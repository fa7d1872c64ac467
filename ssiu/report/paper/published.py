"""What papers print, and what came out of other methods' networks here.

Table I of SSIU is in `table1.csv`, methods since in `since.csv`, what was measured (docs/peers.md) in `measured.csv`,
Tables II to IV in `tables2to4.yaml`.
"""

import csv
import io
import math
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from ssiu.data.catalog import TEST_SETS, known_name
from ssiu.evaluation.metrics import Score

PAPER = "paper"  # the source of its own rows
SAME_SIZE = 0.02  # share by which papers' counts of parameters differ


@dataclass(frozen=True)
class PaperRow:
    """A method's row of Table I, or of one since; ``scores`` by our set names, without the sets it leaves out.

    Its PSNR and SSIM were computed with ``protocol``: the paper's own SSIU row by the authors' code (`official`),
    CATANet's from the raw output (`float`), the others, as their papers give them, by the usual one (`standard`).
    ``source`` is ``paper``, or where a later row was read.
    """

    method: str
    scale: int
    protocol: str
    training_set: str
    params_k: float
    flops_g: float
    scores: dict[str, Score]
    source: str


def paper_rows(scale: int | None = None) -> list[PaperRow]:
    """Table I of the paper, of one scale or all."""
    return _rows("table1.csv", scale)


def known_rows(scale: int | None = None) -> list[PaperRow]:
    """Table I of the paper and, below it, what others have published since; their SSIM is NaN where it is not known."""
    return [*paper_rows(scale), *_rows("since.csv", scale)]


def measured_here(scale: int) -> list[PaperRow]:
    """Networks of other repositories with their weights, measured by this package, to more digits than papers print."""
    return _rows("measured.csv", scale)


def paper_row(model: str, scale: int, parameters: float = math.nan) -> PaperRow | None:
    """The published row that a network belongs to: by its name as others write it, and by its size if that is known.

    Omni-SR is OmniSR elsewhere; ATD-light is ATD's smaller network, which is told from it by its ``parameters``.
    """
    for row in known_rows(scale):
        known = math.isnan(parameters) or abs(parameters / 1e3 - row.params_k) <= SAME_SIZE * row.params_k
        if _bare(row.method) == _bare(model) and known:
            return row
    return None


def paper_facts() -> dict[str, Any]:
    """Tables II to IV of the paper and what is known of IDSA-Net, by name."""
    return yaml.safe_load(_data("tables2to4.yaml"))


def published(model: str, scale: int, parameters: float = math.nan) -> tuple[str, dict[str, Score]]:
    """The protocol and the scores published for a model of this size, by set; empty where there are none.

    An unknown SSIM is NaN; a paper that prints PSNR only, IDSA-Net's, does not say how it was computed.
    """
    psnr = paper_facts()["psnr_only"].get(model, {}).get(scale)
    if psnr:
        return "not stated", {known_name(column): Score(value, math.nan) for column, value in psnr.items()}
    row = paper_row(model, scale, parameters)
    return (row.protocol, row.scores) if row else ("", {})


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]|light", "", name.lower())


def _rows(file: str, scale: int | None) -> list[PaperRow]:
    rows = [_row(line) for line in csv.DictReader(io.StringIO(_data(file)))]
    return [row for row in rows if scale in (None, row.scale)]


def _row(line: dict[str, str]) -> PaperRow:
    scores = {known_name(column): text for column, text in line.items() if known_name(column) in TEST_SETS}
    return PaperRow(
        method=line["method"],
        scale=int(line["scale"]),
        protocol=line.get("protocol") or ("official" if line["method"] == "SSIU" else "standard"),
        training_set=line["train"],
        params_k=float(line["params_k"]),
        flops_g=float(line["flops_g"]),
        scores={name: Score(*map(float, text.split("/"))) for name, text in scores.items() if text != "-"},
        source=line.get("source", PAPER),
    )


def _data(name: str) -> str:
    return (files("ssiu.report.paper") / name).read_text(encoding="utf-8")

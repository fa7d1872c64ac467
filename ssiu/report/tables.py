"""Tables of PSNR / SSIM: as text, Markdown, CSV and LaTeX, each number under the protocol it was computed with."""

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from ssiu.evaluator import Evaluation
from ssiu.metrics import Score, printed

PAPER_SETS = {"Set5": "set5", "Set14": "set14", "B100": "bsd100", "Urban100": "urban100", "Manga109": "manga109"}
ABSENT = "-"


@dataclass(frozen=True)
class PaperRow:
    """A method's row of Table I; ``scores`` by our set names, without the sets the paper leaves out.

    Its PSNR and SSIM were computed with ``protocol``: the paper's own SSIU row by the authors' code (`official`), the
    other rows, as their papers give them, by the usual one (`standard`).
    """

    method: str
    scale: int
    protocol: str
    training_set: str
    params_k: float
    flops_g: float
    scores: dict[str, Score]


def paper_rows(scale: int | None = None) -> list[PaperRow]:
    """Table I of the paper, of one scale or all."""
    rows = []
    for line in csv.DictReader(io.StringIO(_data("table1.csv"))):
        scores = {
            name: Score(*map(float, line[column].split("/")))
            for name, column in PAPER_SETS.items()
            if line[column] != ABSENT
        }
        protocol = "official" if line["method"] == "SSIU" else "standard"
        row = PaperRow(
            line["method"], int(line["scale"]), protocol, line["train"], float(line["params_k"]),
            float(line["flops_g"]), scores,
        )  # fmt: skip
        if scale in (None, row.scale):
            rows.append(row)
    return rows


def paper_facts() -> dict[str, Any]:
    """Tables II to IV of the paper and what is known of IDSA-Net, by name."""
    return yaml.safe_load(_data("tables2to4.yaml"))


def published(model: str, scale: int) -> tuple[str, dict[str, Score]]:
    """The protocol and the scores published for one of our models, by set; empty where there are none.

    An unknown SSIM is NaN; IDSA-Net's paper does not say how its PSNR was computed.
    """
    if model == "IDSANet" and scale == 4:
        psnr = paper_facts()["idsa_net_x4"]["psnr"]
        scores = {name: Score(psnr[column], math.nan) for name, column in PAPER_SETS.items() if column in psnr}
        return "not stated", scores
    return next(((row.protocol, row.scores) for row in paper_rows(scale) if row.method == model), ("", {}))


def cell(score: Score | None, protocol: str) -> str:
    """``32.21 / 0.8948``, a number that is not known as ``-``."""
    if score is None:
        return ABSENT
    psnr, ssim = printed(score, protocol)
    return f"{psnr} / {ABSENT if math.isnan(score.ssim) else ssim}"


@dataclass(frozen=True)
class Table:
    """A heading, a row of column titles and rows of cells, all text; the first column is left-aligned."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """For the terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self._aligned(row, widths) for row in (self.header, ["-" * width for width in widths], *self.rows)]
        return "\n".join([self.title, *lines, *self.notes])

    def markdown(self) -> str:
        """A GitHub table."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines, *[f"\n{note}" for note in self.notes]]) + "\n"

    def html(self) -> str:
        """A ``table`` element; title and notes are left to the page around it."""
        header = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in self.header)
        rows = ("".join(f"<td>{html.escape(text)}</td>" for text in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"

    def csv(self) -> str:
        """Header and rows alone."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()

    def latex(self) -> str:
        """A ``tabular`` for the booktabs package."""
        lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (self.header, *self.rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        columns = "l" + "r" * (len(self.header) - 1)
        comments = [f"% {line}" for line in (self.title, *self.notes)]
        return "\n".join([*comments, rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"

    @staticmethod
    def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
        return "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])


def comparison(title: str, model: str, scale: int, ours: Evaluation, bicubic: Evaluation) -> Table:
    """Bicubic, ours and the published row side by side: a line per test set, the protocol in every column's title."""
    columns = [("bicubic", "standard", bicubic.means["standard"])]
    columns += [(model, protocol, sets) for protocol, sets in ours.means.items()]
    header = ["PSNR dB / SSIM", "images", *[f"{name} ({protocol})" for name, protocol, _ in columns]]
    paper_protocol, paper = published(model, scale)
    rows = []
    for name in ours.sets:
        row = [name, str(len(ours.of(name))), *[cell(sets[name], protocol) for _, protocol, sets in columns]]
        rows.append([*row, cell(paper.get(name), "standard")] if paper else row)  # printed numbers are rounded already
    return Table(title, [*header, f"paper's {model} ({paper_protocol})"] if paper else header, rows)


def score_table(title: str, evaluation: Evaluation) -> Table:
    """The means of every set under every protocol of ``evaluation``."""
    rows = [
        [name, str(len(evaluation.of(name))), *[cell(evaluation.mean(name, p), p) for p in evaluation.protocols]]
        for name in evaluation.sets
    ]
    return Table(title, ["PSNR dB / SSIM", "images", *evaluation.protocols], rows)


def _escaped(text: str) -> str:
    for character in "&%_#$":
        text = text.replace(character, "\\" + character)
    return text


def _data(name: str) -> str:
    return (files("ssiu.report") / name).read_text(encoding="utf-8")

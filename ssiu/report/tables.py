"""Tables of numbers and how they are printed as text, Markdown and LaTeX; `ssiu.report.pages` makes HTML of them."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ssiu.errors import one_line
from ssiu.evaluation.metrics import Score, rounded
from ssiu.evaluation.scores import Evaluation

ABSENT = "-"

PLACES = ("best", "second", "third")
# what stands before and after the best, second and third number of a column
_PLAIN = {0: ("", ""), 1: ("", "¹"), 2: ("", "²"), 3: ("", "³")}
_MARKDOWN = {0: ("", ""), 1: ("**", "**"), 2: ("<u>", "</u>"), 3: ("*", "*")}
_LATEX = {0: ("", ""), 1: (r"\textbf{", "}"), 2: (r"\underline{", "}"), 3: (r"\textit{", "}")}


@dataclass(frozen=True)
class Number:
    """A number, how `format` prints it, and its place among the best of its column (1 to 3; 0 without one).

    NaN is a number that is not known. ``spread`` stands behind it: ``32.21 ± 0.02``.
    """

    value: float
    form: str
    place: int = 0
    spread: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.value):
            return ABSENT
        number = format(self.value, self.form)
        return number if math.isnan(self.spread) else f"{number} ± {format(self.spread, self.form.lstrip('+'))}"


Part = str | Number
Cell = Part | tuple[Part, ...]
"""Text, a number, or several of them, which are printed with a slash between them."""


def cell(score: Score | None, protocol: str) -> Cell:
    """``32.21 / 0.8948``: the two numbers as ``protocol`` rounds them; ``-`` without a score."""
    if score is None:
        return ABSENT
    psnr, ssim = rounded(score, protocol)
    return Number(psnr, ".2f"), Number(ssim, ".4f")


@dataclass(frozen=True)
class Table:
    """A title, a row of column titles, rows of cells (the first column is left-aligned) and notes."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: tuple[str, ...] = ()

    @property
    def marked(self) -> bool:
        """Whether a number has a place, so that a legend is needed."""
        cells = (parts(content) for row in self.rows for content in row)
        return any(isinstance(part, Number) and part.place for cell in cells for part in cell)

    def records(self) -> list[dict[str, Any]]:
        """For JSON: every row by the titles of its columns, with all digits; None where nothing is known."""
        return [dict(zip(self.header, map(_record, row), strict=True)) for row in self.rows]

    def text(self, width: int | None = None) -> str:
        """For the terminal; columns beyond ``width`` characters follow below, beside the first column again.

        Rows that hold nothing there are left out.
        """
        rows = self._rendered(str, _PLAIN, self.header)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * width for width in widths])
        blocks: list[list[int]] = [[]]  # numbers of the columns beside the first
        for column in range(1, len(widths)):
            taken = widths[0] + sum(2 + widths[other] for other in (*blocks[-1], column))
            if width is not None and blocks[-1] and taken > width:
                blocks.append([])
            blocks[-1].append(column)
        lines = [self.title]
        for number, block in enumerate(blocks):
            lines += [""] * (number > 0)
            for row in rows:
                if number and all(row[column] == ABSENT for column in block):
                    continue
                cells = [row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in block)]
                lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *(line for note in self._notes(_PLAIN) for line in _wrapped(note, width))])

    def markdown(self) -> str:
        """A GitHub table."""
        rows = self._rendered(lambda text: text.replace("|", r"\|"), _MARKDOWN, self.header)
        rows.insert(1, ["---", *["---:"] * (len(self.header) - 1)])
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([f"**{self.title}**", "", *lines, *(f"\n{note}" for note in self._notes(_MARKDOWN))]) + "\n"

    def latex(self) -> str:
        """A ``tabular`` for the booktabs package."""
        header, *lines = [" & ".join(row) + r" \\" for row in self._rendered(_tex, _LATEX, self.header)]
        body = [r"\toprule", header, r"\midrule", *lines, r"\bottomrule"]
        columns = "l" + "r" * (len(self.header) - 1)
        comments = [f"% {one_line(line)}" for line in (self.title, *self._notes(_LATEX))]
        return "\n".join([*comments, rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"

    def _notes(self, marks: dict[int, tuple[str, str]]) -> list[str]:
        """The notes, and which mark is which."""
        legend = ", ".join(marks[place][0] + word + marks[place][1] for place, word in enumerate(PLACES, 1))
        return [*self.notes, *([f"{legend} of a column"] if self.marked else [])]

    def _rendered(
        self, escape: Callable[[str], str], marks: dict[int, tuple[str, str]], *before: Sequence[Cell]
    ) -> list[list[str]]:
        def rendered(part: Part) -> str:
            opening, closing = marks[part.place if isinstance(part, Number) else 0]
            return opening + escape(one_line(part)) + closing

        return [[" / ".join(map(rendered, parts(content))) for content in row] for row in (*before, *self.rows)]


def score_table(title: str, evaluation: Evaluation) -> Table:
    """The means of every set under every protocol of ``evaluation``."""
    rows: list[list[Cell]] = [
        [name, image_count(evaluation, name), *[cell(evaluation.mean(name, p), p) for p in evaluation.protocols]]
        for name in evaluation.sets
    ]
    return Table(title, ["PSNR dB / SSIM", "images", *evaluation.protocols], rows, evaluation.remarks())


def image_count(evaluation: Evaluation, set_name: str) -> Number:
    """How many images of a set were scored."""
    return Number(len(evaluation.of(set_name)), "d")


def parts(content: Cell) -> tuple[Part, ...]:
    """What stands in a cell, with a slash between them."""
    return content if isinstance(content, tuple) else (content,)


def _record(content: Cell) -> Any:
    if isinstance(content, tuple):
        return [_record(part) for part in content]
    if isinstance(content, Number):
        return None if math.isnan(content.value) else content.value
    return None if content == ABSENT else content


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(text, max(width, 40), break_long_words=False, break_on_hyphens=False)


_TEX = str.maketrans(
    {character: "\\" + character for character in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _tex(text: str) -> str:
    return text.translate(_TEX)

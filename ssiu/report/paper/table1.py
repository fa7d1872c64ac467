"""Table I again, from its rows: protocols apart, the best marked, and what was recomputed beside the paper's."""

import math
from collections.abc import Iterable, Sequence

from ssiu.data.catalog import TEST_SETS, usual_name
from ssiu.evaluation.metrics import KNOWN, Score
from ssiu.report.paper.published import PAPER
from ssiu.report.paper.rows import BICUBIC, Row, set_names
from ssiu.report.tables import ABSENT, Cell, Number, Part, Table, cell

MARKED = 3  # places that are marked in a column
FEWEST = 4  # methods in a column with marks: the best of two says little
NOTES = {
    "standard": "standard: images as they are saved, in 8 bit; compares with most papers.",
    "official": "official: the authors' evaluation code, which puts SSIM 0.001 to 0.005 higher and rounds means up; "
    "compares with the paper's own SSIU row only, never with standard.",
    "float": "float: the network's raw output, neither clamped nor rounded; 0.00 to 0.02 dB above standard.",
}


def table1(scale: int, rows: Sequence[Row], absent: Sequence[str] = ()) -> list[Table]:
    """A table for each protocol that ``rows`` have numbers under, a column a test set.

    The three best of a column are marked where at least `FEWEST` methods compete; bicubic does not. ``absent`` are the
    sets that are not on disk, which the first table says.
    """
    tables: list[Table] = []
    for protocol in KNOWN:
        there = [row for row in rows if row.means.get(protocol)]
        if there:
            notes = [NOTES[protocol]]
            if any(row.self_ensemble for row in there):
                names = ", ".join(row.method for row in there if row.self_ensemble)
                notes.append(f"{names}: self-ensemble, the mean over the eight flips and rotations of an image.")
            for row in there:
                if row.seeds > 1:
                    notes.append(f"{row.method}: mean ± standard deviation of {row.seeds} seeds.")
            if later := _sources(there):
                notes.append(f"Since the paper, as printed there: {later}. DFLIP is DF2K, LSDIR and DiverSeg-IP.")
            if absent and not tables:
                notes.append(f"Not on disk, so not computed: {', '.join(absent)}.")
            tables.append(_table(f"Table I, x{scale}, {protocol}", protocol, there, notes))
    return tables


def _sources(rows: Iterable[Row]) -> str:
    """``HiT-SRF, HiT-SRF-DF2K (github.com/XiangZ-0/HiT-SR)``: the published rows that are not the paper's."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row.rounded and row.source != PAPER:
            methods.setdefault(row.source, []).append(row.method)
    return ", ".join(f"{', '.join(names)} ({source})" for source, names in methods.items())


def _table(title: str, protocol: str, rows: Sequence[Row], notes: Sequence[str]) -> Table:
    names = [n for n in dict.fromkeys((*TEST_SETS, *set_names(rows))) if any(row.printed(protocol, n) for row in rows)]
    header = ["PSNR dB / SSIM", "trained on", "params K", "MACs G", *names]
    body: list[list[Cell]] = [[row.method, row.training_set, _plain(row.params_k), _plain(row.flops_g)] for row in rows]
    for name in names:
        scores = [row.printed(protocol, name) for row in rows]
        ranked = [score for row, score in zip(rows, scores, strict=True) if score and row.method != BICUBIC]
        best = [_best(numbers) for numbers in zip(*ranked, strict=True)] if len(ranked) >= FEWEST else [[], []]
        for line, row, score in zip(body, rows, scores, strict=True):
            spread = row.deviations.get(protocol, {}).get(name, Score(math.nan, math.nan))
            line.append(_marked(score, best if row.method != BICUBIC else [[], []], spread))
    return Table(title, header, body, tuple(notes))


def recomputed_table(scale: int, rows: Sequence[Row]) -> Table | None:
    """The paper's rows that were recomputed: printed, here, and how they differ; None where there are none.

    Both under the protocol of the paper's row. A number that agrees to the printed digit differs by ``=``.
    """
    paper = {row.method: row for row in rows if row.rounded}
    pairs = [(paper[row.recomputes], row) for row in rows if row.recomputes]
    if not pairs:
        return None
    names = dict.fromkeys(name for _, row in pairs for name in set_names([row]) if usual_name(name) in TEST_SETS)
    body: list[list[Cell]] = []
    for theirs, ours in pairs:
        (protocol,) = theirs.means
        sizes = [[_plain(row.params_k), _plain(row.flops_g)] for row in (theirs, ours)]
        lines: list[list[Cell]] = [
            [theirs.method, f"{theirs.source}, {protocol}", *sizes[0]],
            [ours.method, f"here, {protocol}", *sizes[1]],
            ["", "difference", *map(_difference, *sizes)],
        ]
        for name in names:
            pair = [cell(row.printed(protocol, set_name), "standard")  # which changes nothing more
                    for row, set_name in ((theirs, usual_name(name)), (ours, name))]  # fmt: skip
            theirs_printed, ours_printed = pair
            change: Cell = ABSENT
            if isinstance(theirs_printed, tuple) and isinstance(ours_printed, tuple):
                change = tuple(map(_difference, theirs_printed, ours_printed))
            for line, content in zip(lines, (*pair, change), strict=True):
                line.append(content)
        body += lines
    header = ["recomputed", "from", "params K", "MACs G", *names]
    note = "= agrees to the printed digit. Means are rounded as each protocol does."
    return Table(f"Table I recomputed, x{scale}: PSNR dB / SSIM", header, body, (note,))


def _best(numbers: Iterable[float]) -> list[float]:
    return sorted({number for number in numbers if not math.isnan(number)}, reverse=True)[:MARKED]


def _marked(score: Score | None, best: Sequence[Sequence[float]], spread: Score) -> Cell:
    """A cell whose numbers have the places that they have in ``best``; equal numbers share one."""
    if score is None:
        return ABSENT
    places = [numbers.index(value) + 1 if value in numbers else 0 for value, numbers in zip(score, best, strict=True)]
    return Number(score.psnr, ".2f", places[0], spread.psnr), Number(score.ssim, ".4f", places[1], spread.ssim)


def _difference(printed: Part, measured: Part) -> Part:
    """``+0.02``, with the digits of ``printed``; ``=`` where there is none."""
    if isinstance(printed, str) or isinstance(measured, str):
        return ABSENT
    if printed.value == measured.value:
        return "="
    return Number(measured.value - printed.value, "+" + printed.form.lstrip(","))


def _plain(value: float) -> Number:
    return Number(round(value, 0), ",.0f")

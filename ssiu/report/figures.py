"""Figures of the paper drawn from data: visual comparison, trade-off, training curves, attribution maps."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from ssiu.data.catalog import TEST_SETS
from ssiu.errors import BadInputError, MissingInputError, OutputError, one_line
from ssiu.evaluation.lam import Attribution
from ssiu.evaluation.metrics import score
from ssiu.files import make_folder, write_atomically
from ssiu.report.paper.published import measured_here, paper_row
from ssiu.report.paper.rows import Row, published_rows
from ssiu.report.results_page import heaviest_box

matplotlib.rcParams["text.parse_math"] = False  # a name may hold $

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""

FORMATS = (".png", ".pdf", ".svg")
ACCENT = "#d62728"
PUBLISHED, OWN, RING = "#4c72b0", "#2ca02c", "#555555"  # the last of what was measured here
SHARES = LinearSegmentedColormap.from_list("shares", [(0.9, 0.1, 0.1, 0), (0.9, 0.1, 0.1, 1)])  # clear to red
NO_TERMS = {"kind", "step", "epoch", "loss", "lr", "muon_lr", "it_per_s", "data_wait", "peak_mib"}  # of metrics.jsonl
AREA = 5  # thousand parameters per square point of a circle
SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))  # of a marker: right, up


def check_target(path: Path) -> None:
    """Makes the folder of a figure; raises OutputError (73) where that is not possible or no figure has the suffix."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"cannot draw into {path}; expected a name that ends in {', '.join(FORMATS)}")
    make_folder(path.parent)


def save_figure(path: Path, figure: Figure) -> None:
    """Writes ``figure`` as PNG, PDF or SVG into what passed `check_target`; raises OutputError (73), SaveError (74)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=200, bbox_inches="tight")
    write_atomically(path, buffer.getvalue())


def gain_box(hr: np.ndarray, images: dict[str, np.ndarray], pixels: int) -> Box:
    """The square of ``pixels`` in which the last of ``images`` gains most on the first, in squared error."""
    first, *_, last = images.values() if len(images) > 1 else (*images.values(), hr)
    errors = [((image.astype(np.int64) - hr) ** 2).sum(axis=2) for image in (first, last)]
    return heaviest_box(errors[0] - errors[1], pixels)


def compare_figure(
    title: str, lr: np.ndarray, hr: np.ndarray, images: dict[str, np.ndarray], box: Box, scale: int
) -> Figure:
    """Fig. 5-8: the original with a box, and what each method makes of the box; LR too where its cell were empty.

    ``images`` are uint8 (H, W, 3) by method, as large as ``hr``; under each stand PSNR and SSIM of the whole image
    under the `standard` protocol. Raises BadInputError (65) for an image of another size or a box outside.
    """
    left, top, width, height = box
    if not (0 <= left <= hr.shape[1] - width and 0 <= top <= hr.shape[0] - height and min(width, height) > 0):
        raise BadInputError(
            f"box {box} (left, top, width, height) does not lie in the {hr.shape[1]}x{hr.shape[0]} image"
        )
    captions = {"HR": "HR\nPSNR dB / SSIM", "LR": f"LR\nevery pixel {scale}x{scale}"}
    for name, image in images.items():
        try:
            captions[name] = f"{name}\n{'{:.2f} / {:.4f}'.format(*score(image, hr, scale, 'standard'))}"
        except BadInputError as error:
            raise BadInputError(f"{name}: {error}") from None
    crops = {"HR": hr} | images
    if len(crops) % 2:
        crops = {"HR": hr, "LR": lr.repeat(scale, axis=0).repeat(scale, axis=1)} | images
    columns = len(crops) // 2
    cell = 1.8  # inches
    tall = 2 * (cell * height / width + 0.45)
    wide = min(tall * hr.shape[1] / hr.shape[0], 6.0)
    figure = Figure(figsize=(wide + cell * columns, tall), layout="constrained")
    grid = figure.add_gridspec(2, 1 + columns, width_ratios=[wide, *[cell] * columns])
    whole = figure.add_subplot(grid[:, 0])
    whole.imshow(hr)
    whole.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=ACCENT, linewidth=2))
    whole.set_xlabel(title, fontsize=9)
    axes = [whole]
    for index, (name, image) in enumerate(crops.items()):
        axis = figure.add_subplot(grid[index // columns, 1 + index % columns])
        axis.imshow(image[top : top + height, left : left + width], interpolation="nearest")
        axis.set_xlabel(captions[name], fontsize=8)
        axes.append(axis)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def tradeoff_figure(scale: int, set_name: str, runs: Sequence[Row] = ()) -> Figure:
    """Fig. 1: PSNR over multiply-accumulates of Table I's methods and those since; the area is of the parameters.

    What was measured here is a ring, with a name where there is no published row. ``runs`` are added under `standard`,
    as all published rows are but those whose labels name another protocol.
    Raises BadInputError (65) where a run has no PSNR on the set, or where its network was not counted.
    """
    if set_name not in TEST_SETS:
        raise BadInputError(f"Table I has no numbers on '{set_name}'; it has {', '.join(TEST_SETS)}")
    markers = []
    for row in published_rows(scale):
        for protocol, sets in row.means.items():
            if set_name in sets:
                label = row.method if protocol == "standard" else f"{row.method} ({protocol})"
                colour = ACCENT if row.method == "SSIU" else PUBLISHED
                markers.append(_Marker(label, row.flops_g, sets[set_name].psnr, row.params_k, colour))
    for row in runs:
        found = row.means.get("standard", {}).get(set_name)
        if found is None or not math.isfinite(found.psnr + row.flops_g + row.params_k):
            raise BadInputError(
                f"{row.method}: no PSNR on {set_name}, or no number of parameters and multiply-accumulates; "
                "expected a summary.json that test.py writes now, on this set"
            )
        markers.append(_Marker(one_line(f"{row.method} (standard)"), row.flops_g, found.psnr, row.params_k, OWN))
    rings = []
    for measured in measured_here(scale):
        if set_name in measured.scores:
            label = "" if paper_row(measured.method, scale, 1e3 * measured.params_k) else measured.method
            psnr = measured.scores[set_name].psnr
            rings.append(_Marker(label, measured.flops_g, psnr, measured.params_k, RING))
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axis = figure.add_subplot()
    axis.margins(0.1)
    axis.set_xscale("log", subs=[2, 3, 5])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")
    for marker in markers:
        axis.scatter(marker.macs, marker.psnr, s=marker.area, color=marker.colour, alpha=0.6, linewidths=0)
    for ring in rings:
        axis.scatter(ring.macs, ring.psnr, s=ring.area, facecolors="none", edgecolors=ring.colour)
    for params in (250, 750, 1500):
        axis.scatter([], [], s=params / AREA, color="#999999", linewidths=0, label=f"{params} K parameters")
    if rings:
        axis.scatter([], [], s=500 / AREA, facecolors="none", edgecolors=RING, label="measured here")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, labelspacing=1.2, frameon=False)
    axis.set_xlabel("multiply-accumulates for a 1280x720 output, G (the paper's FLOPs)")
    axis.set_ylabel(f"PSNR on {set_name}, dB")
    origin = "Table I of the paper, methods since" + (", own runs" if runs else "") + "; standard unless named"
    axis.set_title(f"x{scale}, {origin}", fontsize=10)
    figure.draw_without_rendering()  # settles the layout, so that labels can be placed where there is room
    markers += rings
    taken = []
    for marker in markers:
        x, y = axis.transData.transform((marker.macs, marker.psnr))
        radius = marker.radius * figure.dpi / 72  # in pixels
        taken.append(Bbox.from_extents(x - radius, y - radius, x + radius, y + radius))
    for marker in markers:
        if marker.label:
            taken.append(_label(axis, marker, taken))
    return figure


class _Marker(NamedTuple):
    """A network in the trade-off figure: G multiply-accumulates, dB and thousand parameters."""

    label: str
    macs: float
    psnr: float
    params_k: float
    colour: str

    @property
    def area(self) -> float:
        """In square points."""
        return self.params_k / AREA

    @property
    def radius(self) -> float:
        """In points: the area that matplotlib is given is the square of the diameter."""
        return math.sqrt(self.area) / 2


def _label(axis: Axes, marker: _Marker, taken: list[Bbox]) -> Bbox:
    """Writes the label of ``marker`` where it covers the least of ``taken``; returns its place.

    Of places that cover nothing the first, and so the nearest, is taken; a line leads from one farther off to the
    marker.
    """
    look: dict[str, Any] = {"fontsize": 8, "weight": "bold" if marker.colour in (ACCENT, OWN) else "normal"}
    probe = axis.figure.text(0, 0, marker.label, **look)
    width, height = probe.get_window_extent().size
    probe.remove()
    x, y = axis.transData.transform((marker.macs, marker.psnr))
    nearest = marker.radius + 1

    def place(right: int, up: int, distance: float) -> Bbox:
        pixels = distance * axis.figure.dpi / 72
        left = x + right * pixels - width * (1 - right) / 2
        bottom = y + up * pixels - height * (1 - up) / 2
        return Bbox.from_bounds(left, bottom, width, height)

    def covered(where: tuple[int, int, float]) -> float:
        """What lies outside of the axis counts, too."""
        label = place(*where)
        outside = _common(label, label) - _common(label, axis.bbox)
        return outside + sum(_common(label, other) for other in taken)

    distances = (nearest, nearest + 8, nearest + 17, nearest + 26)
    right, up, distance = min(((*side, distance) for distance in distances for side in SIDES), key=covered)
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": RING, "shrinkA": 0, "shrinkB": marker.radius}
    axis.annotate(
        marker.label, (marker.macs, marker.psnr), (right * distance, up * distance), textcoords="offset points",
        ha=("right", "center", "left")[right + 1], va=("top", "center", "bottom")[up + 1],
        arrowprops=line if distance > nearest else None, **look,
    )  # fmt: skip
    return place(right, up, distance)


def _common(a: Bbox, b: Bbox) -> float:
    """The area that two boxes share."""
    both = Bbox.intersection(a, b)
    return both.width * both.height if both else 0.0


def curves_figure(runs: dict[str, list[dict]], over: str = "step") -> Figure:
    """Loss, its terms and validation PSNR over the steps, or with ``over="time"`` over the minutes of training.

    ``runs`` are the lines of ``metrics.jsonl`` by name.
    """
    logged = dict.fromkeys(key for lines in runs.values() for line in lines for key in line)
    terms = [key for key in logged if key not in NO_TERMS and "/" not in key]
    losses = ["loss", *(terms if len(terms) > 1 else [])]
    validated = sorted(key for key in logged if key.startswith("psnr/"))
    place = training_minutes if over == "time" else lambda lines: {line["step"]: line["step"] for line in lines}
    places = {name: place(lines) for name, lines in runs.items()}
    keys = [*losses, *validated]
    figure = Figure(figsize=(6.4, 2.8 * len(keys)), layout="constrained")
    axes = figure.subplots(len(keys), squeeze=False, sharex=True)[:, 0]
    for axis, key in zip(axes, keys, strict=True):
        for name, lines in runs.items():
            points = [(places[name][line["step"]], line[key]) for line in lines if key in line]
            axis.plot(*zip(*points, strict=True), label=name, marker="" if len(points) > 30 else ".", linewidth=1)
        loss = "training loss" if key == "loss" else f"its term {key}"
        axis.set_ylabel(loss if key in losses else f"PSNR on {key.removeprefix('psnr/')}, dB (standard)")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(axis.lines, [line.get_label() for line in axis.lines], fontsize=8)  # those with _ too
    for axis in axes[: len(losses)]:
        low, high = axis.dataLim.intervaly
        if high >= 10 * low > 0:  # less would hold few of the logarithmic axis's ticks, or none
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
    axes[-1].set_xlabel("minutes of training" if over == "time" else "step")
    return figure


def joined(runs: Sequence[list[dict]]) -> list[dict]:
    """The lines of runs that went on from one another, in a row: each begins at the step where the one before ended."""
    lines: list[dict] = []
    for run in runs:
        start = lines[-1]["step"] if lines else 0
        lines += [line | {"step": start + line["step"]} for line in run]
    return lines


def training_minutes(lines: list[dict]) -> dict[int, float]:
    """The minutes of training until each step of ``metrics.jsonl``, from the logged speeds: without validations."""
    trained = [(line["step"], line["it_per_s"]) for line in lines if "it_per_s" in line]
    ends = [0, *(step for step, _ in trained)]
    minutes = np.cumsum([0, *((end - start) / speed / 60 for (end, speed), start in zip(trained, ends, strict=False))])
    return {line["step"]: float(np.interp(line["step"], ends, minutes)) for line in lines}


def read_metrics(path: Path) -> list[dict]:
    """The lines of a run's ``metrics.jsonl``; ``path`` is the file or the run's folder.

    A last line without its end, which a kill leaves or a run is writing, is left out. Raises MissingInputError (66)
    and, for a file that is something else or damaged, BadInputError (65).
    """
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror}; expected a run's metrics.jsonl") from None
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
            if not isinstance(line["step"], int):
                raise TypeError
        except (ValueError, KeyError, RecursionError, TypeError):
            raise BadInputError(
                f"{path}, line {number}: no line of a training run's metrics.jsonl ({text[:40]!a}); remove it, "
                "or name another file"
            ) from None
        lines.append(line)
    if not any("loss" in line for line in lines):
        raise BadInputError(f"{path} holds no training steps yet")
    return lines


def lam_figure(lr: np.ndarray, box: Box, scale: int, attributions: dict[str, Attribution]) -> Figure:
    """Fig. 9: LR (H, W, 3) with the box, and per model which pixels its SR there was made from."""
    height, width = lr.shape[:2]
    wide = 2.6
    figure = Figure(figsize=(wide * (1 + len(attributions)) + 0.8, wide * height / width + 0.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(attributions), squeeze=False)[0]
    axes[0].imshow(lr)
    axes[0].set_xlabel("LR and box", fontsize=8)
    gray = 0.5 * np.repeat(lr.mean(axis=2, keepdims=True), 3, axis=2) / 255
    for axis, (name, attribution) in zip(axes[1:], attributions.items(), strict=True):
        strength = np.abs(attribution.values)
        axis.imshow(gray)
        drawn = axis.imshow(strength / strength.max(), cmap=SHARES, norm=PowerNorm(1 / 3, 0, 1))
        axis.set_xlabel(f"{name}\ndiffusion index {attribution.diffusion_index:.2f}", fontsize=8)
    bar = figure.colorbar(
        drawn, ax=list(axes), ticks=(0, 0.001, 0.01, 0.05, 0.2, 0.5, 1), format="{x:g}", fraction=0.05
    )
    bar.set_label("share, of the largest pixel's", fontsize=8)
    bar.ax.set_facecolor("#555555")  # what the colours are seen on
    bar.ax.tick_params(labelsize=7)
    for axis in axes:
        corner, size = (box[0] / scale - 0.5, box[1] / scale - 0.5), (box[2] / scale, box[3] / scale)
        for colour, line_width in (("black", 4.0), ("#ffd400", 2.0)):  # seen on anything
            axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=line_width))
        axis.set_xticks([])
        axis.set_yticks([])
    return figure

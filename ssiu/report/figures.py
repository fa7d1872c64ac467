"""Figures of the paper drawn from data: visual comparison, trade-off, training curves, attribution maps."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.evaluation.lam import Attribution
from ssiu.evaluation.metrics import score
from ssiu.files import write_atomically
from ssiu.report.paper import paper_rows

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""

FORMATS = (".png", ".pdf", ".svg")
ACCENT = "#d62728"
AREA = 5  # thousand parameters per square point of a circle


def save_figure(path: Path, figure: Figure) -> None:
    """Writes ``figure`` as PNG, PDF or SVG; raises OutputError (73) for another suffix, SaveError (74)."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"cannot draw into {path}; expected a name that ends in {', '.join(FORMATS)}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=200, bbox_inches="tight")
    write_atomically(path, buffer.getvalue())


def compare_figure(title: str, hr: np.ndarray, images: dict[str, np.ndarray], box: Box, scale: int) -> Figure:
    """Fig. 5-8: the original with a box, and what each method makes of the box.

    ``images`` are uint8 (H, W, 3) by method, as large as ``hr``; under each stand PSNR and SSIM of the whole image
    under the `standard` protocol. Raises BadInputError (65) for an image of another size or a box outside.
    """
    left, top, width, height = box
    if not (0 <= left <= hr.shape[1] - width and 0 <= top <= hr.shape[0] - height and min(width, height) > 0):
        raise BadInputError(
            f"box {box} (left, top, width, height) does not lie in the {hr.shape[1]}x{hr.shape[0]} image"
        )
    captions = {}
    for name, image in images.items():
        try:
            captions[name] = f"{name}\n{'{:.2f} / {:.4f}'.format(*score(image, hr, scale, 'standard'))}"
        except BadInputError as error:
            raise BadInputError(f"{name}: {error}") from None
    crops = {"HR": hr} | images
    columns = math.ceil(len(crops) / 2)
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
        axis.set_xlabel(captions.get(name, "HR\nPSNR dB / SSIM"), fontsize=8)
        axes.append(axis)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def tradeoff_figure(scale: int, set_name: str) -> Figure:
    """Fig. 1: PSNR over multiply-accumulates of Table I's methods, the area of a circle by parameters."""
    rows = [row for row in paper_rows(scale) if set_name in row.scores]
    if not rows:
        raise BadInputError(f"Table I has no numbers on '{set_name}'; it has Set5, Set14, B100, Urban100 and Manga109")
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axis = figure.add_subplot()
    axis.margins(0.1)
    axis.grid(alpha=0.3)
    for row in rows:
        colour = ACCENT if row.method == "SSIU" else "#4c72b0"
        place = (row.flops_g, row.scores[set_name].psnr)
        axis.scatter(*place, s=row.params_k / AREA, color=colour, alpha=0.6, linewidths=0)
    for params in (250, 750, 1500):
        axis.scatter([], [], s=params / AREA, color="#999999", linewidths=0, label=f"{params} K parameters")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, labelspacing=1.2, frameon=False)
    axis.set_xlabel("multiply-accumulates for a 1280x720 output, G (the paper's FLOPs)")
    axis.set_ylabel(f"PSNR on {set_name}, dB")
    axis.set_title(f"x{scale}, all numbers from Table I of the paper", fontsize=10)
    figure.draw_without_rendering()  # settles the layout, so that labels can be placed where there is room
    taken = [Bbox.from_bounds(*(axis.transData.transform(points.get_offsets()[0]) - 8), 16, 16)
             for points in axis.collections[: len(rows)]]  # fmt: skip
    for row in rows:
        taken.append(_label(axis, row.method, (row.flops_g, row.scores[set_name].psnr), taken))
    return figure


def _label(axis: Axes, text: str, point: tuple[float, float], taken: list[Bbox]) -> Bbox:
    """Writes ``text`` beside ``point`` where it covers the least of ``taken``; returns the place it takes."""
    sides = {
        (0, 9): ("center", "bottom"),
        (0, -9): ("center", "top"),
        (9, 0): ("left", "center"),
        (-9, 0): ("right", "center"),
    }
    best = None
    for offset, (horizontal, vertical) in sides.items():
        label = axis.annotate(
            text, point, fontsize=8, ha=horizontal, va=vertical, xytext=offset, textcoords="offset points",
            weight="bold" if text == "SSIU" else "normal",
        )  # fmt: skip
        place = label.get_window_extent()
        covered = sum(hit.width * hit.height for other in taken if (hit := Bbox.intersection(place, other)))
        if best is None or covered < best[0]:
            if best:
                best[1].remove()
            best = (covered, label, place)
        else:
            label.remove()
    return best[2]


def curves_figure(runs: dict[str, list[dict]], over: str = "step") -> Figure:
    """Loss and validation PSNR over the steps, or with ``over="time"`` over the minutes of training they took.

    ``runs`` are the lines of ``metrics.jsonl`` by name.
    """
    validated = sorted({key for lines in runs.values() for line in lines for key in line if key.startswith("psnr/")})
    place = training_minutes if over == "time" else lambda lines: {line["step"]: line["step"] for line in lines}
    places = {name: place(lines) for name, lines in runs.items()}
    figure = Figure(figsize=(6.4, 2.8 * (1 + len(validated))), layout="constrained")
    axes = figure.subplots(1 + len(validated), squeeze=False)[:, 0]
    for axis, key in zip(axes, ["loss", *validated], strict=True):
        for name, lines in runs.items():
            points = [(places[name][line["step"]], line[key]) for line in lines if key in line]
            axis.plot(*zip(*points, strict=True), label=name, marker="" if len(points) > 30 else ".", linewidth=1)
        axis.set_ylabel("training loss" if key == "loss" else f"PSNR on {key.removeprefix('psnr/')}, dB (standard)")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0].set_yscale("log")
    axes[-1].set_xlabel("minutes of training" if over == "time" else "step")
    return figure


def training_minutes(lines: list[dict]) -> dict[int, float]:
    """The minutes of training until each step of ``metrics.jsonl``, from the logged speeds: without validations."""
    trained = [(line["step"], line["it_per_s"]) for line in lines if "it_per_s" in line]
    ends = [0, *(step for step, _ in trained)]
    minutes = np.cumsum([0, *((end - start) / speed / 60 for (end, speed), start in zip(trained, ends, strict=False))])
    return {line["step"]: float(np.interp(line["step"], ends, minutes)) for line in lines}


def read_metrics(path: Path) -> list[dict]:
    """The lines of a run's ``metrics.jsonl``; ``path`` is the file or the run's folder."""
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror}; expected a run's metrics.jsonl") from None
    except ValueError:
        raise BadInputError(f"{path} is no metrics.jsonl of a training run") from None
    if not any(isinstance(line, dict) and "step" in line and "loss" in line for line in lines):
        raise BadInputError(f"{path} holds no training steps yet")
    return lines


def lam_figure(lr: np.ndarray, box: Box, scale: int, attributions: dict[str, Attribution]) -> Figure:
    """Fig. 9: LR (H, W, 3) with the box, and per model which pixels its SR there was made from."""
    height, width = lr.shape[:2]
    wide = 2.6
    figure = Figure(figsize=(wide * (1 + len(attributions)), wide * height / width + 0.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(attributions), squeeze=False)[0]
    axes[0].imshow(lr)
    axes[0].set_xlabel("LR and box", fontsize=8)
    gray = np.repeat(lr.mean(axis=2, keepdims=True), 3, axis=2) / 255
    for axis, (name, attribution) in zip(axes[1:], attributions.items(), strict=True):
        strength = np.abs(attribution.values)
        strength = np.cbrt(strength / strength.max())[..., None]  # (H, W, 1); the root lets small shares be seen
        axis.imshow(0.5 * gray * (1 - strength) + strength * np.array([0.9, 0.1, 0.1]))
        axis.set_xlabel(f"{name}\ndiffusion index {attribution.diffusion_index:.2f}", fontsize=8)
    for axis in axes:
        corner, size = (box[0] / scale - 0.5, box[1] / scale - 0.5), (box[2] / scale, box[3] / scale)
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#ffd400", linewidth=1.2))
        axis.set_xticks([])
        axis.set_yticks([])
    return figure

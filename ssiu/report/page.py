"""``report.html``: the numbers of a test run and images to compare, in one file that needs no network.

Three images of each choice (bicubic, SR, HR) are embedded as lossless WebP; the error map is computed by the page.
"""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from ssiu.data.bicubic import imresize
from ssiu.data.images import read_rgb
from ssiu.data.test_sets import BenchmarkSet
from ssiu.evaluation.evaluate import Evaluation, ImageResult, image_file
from ssiu.evaluation.metrics import Score
from ssiu.report.tables import Table

SHOWN = 6  # images of each set
PIXELS = 2_000_000  # of HR, over all shown images: about 7 MB of page


@dataclass(frozen=True)
class Shown:
    """One choice for the page: what is cut out of the image (whole where ``box`` covers it), uint8 (h, w, 3) each."""

    result: ImageResult
    bicubic_score: Score
    box: tuple[int, int, int, int]  # left, top, width, height in HR pixels
    images: dict[str, np.ndarray]


def report_page(
    table: Table,
    facts: dict[str, str],
    summary: dict[str, Any],
    evaluation: Evaluation,
    bicubic: Evaluation,
    shown: Sequence[Shown],
    image_folder: Path | None,
) -> str:
    """The page as text.

    Args:
        table: the summary table; ``summary`` is the same as ``summary.json``.
        facts: what stands under the title, such as the weights and the command.
        evaluation, bicubic: all images, in one order; the columns of the second table.
        shown: the images to compare, see `choose`.
        image_folder: folder of the SR images relative to the page, or None where they were not saved.
    """
    listed = "".join(f"<b>{html.escape(key)}</b> <code>{html.escape(value)}</code><br>" for key, value in facts.items())
    images = "".join(_set_section(name, [s for s in shown if s.result.set_name == name]) for name in evaluation.sets)
    if image_folder is None:
        images = "<p>No images: this run did not save them (save_image: false).</p>"
    template = Template((files("ssiu.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(table.title),
        facts=f"<p>{listed}</p>",
        summary_table=table.html(),
        image_table=_image_table(evaluation, bicubic, shown, summary["scale"], image_folder),
        images=images,
        summary_json=json.dumps(summary).replace("<", "\\u003c"),  # no file name may end the script element
    )


def choose(
    test_set: BenchmarkSet, evaluation: Evaluation, bicubic: Evaluation, image_folder: Path, pixels: int = PIXELS
) -> list[Shown]:
    """Up to six images of a set: all, or the two worst, the two in the middle and the two best by PSNR.

    An image with more than its share of ``pixels`` is cut to the piece where SR and bicubic differ most.
    ``image_folder`` is the folder with the SR images of the run.
    """
    results = evaluation.of(test_set.name)
    order = sorted(range(len(results)), key=lambda index: results[index].scores["standard"].psnr)
    if len(order) > SHOWN:
        middle = len(order) // 2 - 1
        order = order[:2] + order[middle : middle + 2] + order[-2:]
    shown = []
    for index in order:
        name, lr, hr = test_set[index]
        sr = read_rgb(image_folder / image_file(test_set.name, name, test_set.scale))
        images = {"bicubic": imresize(lr, scale=test_set.scale), "SR": sr, "HR": hr}
        box = telling_box(images["bicubic"], sr, pixels // len(order))
        left, top, width, height = box
        cut = {title: image[top : top + height, left : left + width] for title, image in images.items()}
        shown.append(Shown(results[index], bicubic.of(test_set.name)[index].scores["standard"], box, cut))
    return shown


def telling_box(a: np.ndarray, b: np.ndarray, pixels: int) -> tuple[int, int, int, int]:
    """(left, top, width, height): the whole image, or the square of ``pixels`` where ``a`` and ``b`` differ most."""
    height, width = a.shape[:2]
    if height * width <= pixels:
        return 0, 0, width, height
    box_height = min(height, int(pixels**0.5))
    box_width = min(width, pixels // box_height)
    difference = np.abs(a.astype(np.int32) - b).sum(axis=2)
    sums = np.pad(difference.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # (H + 1, W + 1) sums of all above and left
    over = sums[box_height:, box_width:] - sums[:-box_height, box_width:]
    over = over - sums[box_height:, :-box_width] + sums[:-box_height, :-box_width]
    top, left = np.unravel_index(over.argmax(), over.shape)
    return int(left), int(top), box_width, box_height


def _set_section(name: str, shown: Sequence[Shown]) -> str:
    if not shown:
        return ""
    keys = "Drag the line, or press the arrow keys on an image; + and - zoom, Shift and arrows move what is shown."
    figures = "".join(map(_figure, shown))
    return f'<h2>{html.escape(name)}</h2><p>{keys}</p><div class="images">{figures}</div>'


def _figure(shown: Shown) -> str:
    result = shown.result
    label = html.escape(result.key)
    left, top, width, height = shown.box
    size = _size(width, height)
    if (width, height) != (result.width, result.height):
        size += f" at ({left}, {top}) of {_size(result.width, result.height)}"
    numbers = [
        f"{title} {' / '.join(_digits(value))}"
        for title, value in (("bicubic", shown.bicubic_score), ("SR", result.scores["standard"]))
    ]
    layers = "".join(f'<img alt="{title}" src="{_data_uri(image)}">' for title, image in shown.images.items())
    return (
        f'<figure id="{label}" data-name="{label}"><figcaption><b>{html.escape(result.name)}</b>'
        f"<span>{size}</span><span>{'; '.join(numbers)} (standard)</span></figcaption>"
        f'<div class="view" tabindex="0" role="group" aria-label="{label}: compare" data-width="{width}" '
        f'data-height="{height}">{layers}</div></figure>'
    )


def _image_table(
    evaluation: Evaluation, bicubic: Evaluation, shown: Sequence[Shown], scale: int, image_folder: Path | None
) -> str:
    """Every image; ``data-value`` is what the page sorts by, with all digits."""
    titles = [("set", "text"), ("image", "text"), ("pixels", "")]
    titles += [(f"{number} ({protocol})", "") for protocol in evaluation.protocols for number in ("PSNR", "SSIM")]
    titles += [("bicubic PSNR (standard)", ""), ("gain dB", "")]
    header = "".join(f'<th scope="col" class="{kind}">{title}</th>' for title, kind in titles)
    viewers = {choice.result.key for choice in shown}
    body = ""
    for result, baseline in zip(evaluation.images, bicubic.images, strict=True):
        name = html.escape(result.name)
        if image_folder is not None:
            file = image_folder / image_file(result.set_name, result.name, scale)
            link = f"#{quote(result.key)}" if result.key in viewers else quote(file.as_posix())
            name = f'<a href="{link}">{name}</a>'
        numbers = [number for score in result.scores.values() for number in zip(_digits(score), score, strict=True)]
        base = baseline.scores["standard"]
        gain = result.scores["standard"].psnr - base.psnr
        numbers += [(_digits(base)[0], base.psnr), (f"{gain:+.2f}", gain)]
        cells = [_cell(html.escape(result.set_name), result.set_name, "text"), _cell(name, result.name, "text")]
        cells += [_cell(_size(result.width, result.height), result.width * result.height)]
        body += f"<tr>{''.join(cells + [_cell(*number) for number in numbers])}</tr>"
    return f'<table class="sortable"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'


def _cell(content: str, value: str | float, kind: str = "") -> str:
    return f'<td class="{kind}" data-value="{html.escape(str(value))}">{content}</td>'


def _size(width: int, height: int) -> str:
    return f"{width}\N{MULTIPLICATION SIGN}{height}"


def _digits(value: Score) -> tuple[str, str]:
    return f"{value.psnr:.2f}", f"{value.ssim:.4f}"


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()

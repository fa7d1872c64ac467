"""``report.html``: the numbers of a test run and images to compare, in one file that needs no network.

The images of each choice (bicubic, SR, HR, and the SR of a second run) are embedded as lossless WebP; error maps are
computed by the page.
"""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from ssiu.data.test_sets import BenchmarkSet
from ssiu.errors import first_names
from ssiu.evaluation.evaluate import Evaluation, ImageResult, image_file
from ssiu.evaluation.metrics import Score
from ssiu.images.bicubic import imresize
from ssiu.images.io import read_rgb
from ssiu.report.parts import fill_page, page_part
from ssiu.report.tables import Table

SHOWN = 6  # images of each set
LONGEST = 16_383  # pixels of a side of a WebP image
PIXELS = 2_000_000  # of HR, over all images where 6 of each set are shown: about 7 MB of page


@dataclass(frozen=True)
class OtherRun:
    """The SR images of a second run: what it is called, its ``images`` folder, PSNR and SSIM (`standard`) by image."""

    name: str
    images: Path
    scores: dict[str, Score]


@dataclass(frozen=True)
class Shown:
    """One choice for the page: what is cut out of the image (whole where ``box`` covers it), uint8 (h, w, 3) each.

    ``scores`` (`standard`) are of whole images, under the names that their ``images`` have.
    """

    result: ImageResult
    scores: dict[str, Score]
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
    return fill_page(
        "report/results_page.html",
        title=html.escape(table.title),
        facts=f"<p>{listed}</p>",
        summary_table=table.html(),
        image_table=_image_table(evaluation, bicubic, shown, summary["scale"], image_folder),
        images=images,
        above_one=_above_one(evaluation),
        summary_json=json.dumps(summary).replace("<", "\\u003c"),  # no file name may end the script element
    )


def choose(
    test_set: BenchmarkSet,
    evaluation: Evaluation,
    bicubic: Evaluation,
    image_folder: Path,
    pixels: int = PIXELS // SHOWN,
    most: int | None = SHOWN,
    other: OtherRun | None = None,
) -> list[Shown]:
    """Images of a set, from the worst PSNR to the best: all, or the ``most`` worst, middle and best ones.

    An image with more than ``pixels``, or a side longer than `LONGEST`, is cut to the piece where SR and bicubic differ
    most. ``image_folder`` is the folder with the SR images of the run. Raises BadInputError (65) for a damaged image of
    ``other``.
    """
    results = evaluation.of(test_set.name)
    order = sorted(range(len(results)), key=lambda index: results[index].scores["standard"].psnr)
    if most is not None and len(order) > most:
        worst = -(-most // 3)
        best = -(-(most - worst) // 2)
        middle = most - worst - best
        start = (len(order) - middle) // 2
        order = order[:worst] + order[start : start + middle] + order[len(order) - best :]
    shown = []
    for index in order:
        name, lr, hr = test_set[index]
        file = image_file(test_set.name, name, test_set.scale)
        sr = read_rgb(image_folder / file)
        scores = {"bicubic": bicubic.of(test_set.name)[index].scores["standard"]}
        scores["SR"] = results[index].scores["standard"]
        images = {"bicubic": imresize(lr, scale=test_set.scale), "SR": sr}
        if other:
            images[other.name] = read_rgb(other.images / file)
            scores[other.name] = other.scores[results[index].key]
        images["HR"] = hr
        box = telling_box(images["bicubic"], sr, pixels)
        left, top, width, height = box
        cut = {title: image[top : top + height, left : left + width] for title, image in images.items()}
        shown.append(Shown(results[index], scores, box, cut))
    return shown


def telling_box(a: np.ndarray, b: np.ndarray, pixels: int) -> tuple[int, int, int, int]:
    """(left, top, width, height): the whole image, or the square of ``pixels`` where ``a`` and ``b`` differ most."""
    return heaviest_box(np.abs(a.astype(np.int32) - b).sum(axis=2), pixels)


def heaviest_box(weights: np.ndarray, pixels: int) -> tuple[int, int, int, int]:
    """(left, top, width, height): all of ``weights`` (H, W), or the square of ``pixels`` with the largest sum.

    No side is longer than `LONGEST`.
    """
    box_height, box_width = (min(side, LONGEST) for side in weights.shape)
    if box_height * box_width > pixels:
        box_height = min(box_height, int(pixels**0.5))
        box_width = min(box_width, pixels // box_height)
    sums = np.pad(weights.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # (H + 1, W + 1) sums of all above and left
    over = sums[box_height:, box_width:] - sums[:-box_height, box_width:]
    over = over - sums[box_height:, :-box_width] + sums[:-box_height, :-box_width]
    top, left = np.unravel_index(over.argmax(), over.shape)
    return int(left), int(top), box_width, box_height


def _set_section(name: str, shown: Sequence[Shown]) -> str:
    if not shown:
        return ""
    figures = "".join(map(_figure, shown))
    return f"<h2>{html.escape(name)}</h2>" + page_part("report/slider.html") + f'<div class="images">{figures}</div>'


def _figure(shown: Shown) -> str:
    result = shown.result
    label = html.escape(result.key)
    left, top, width, height = shown.box
    size = _size(width, height)
    if (width, height) != (result.width, result.height):
        size += f" at ({left}, {top}) of {_size(result.width, result.height)}"
    numbers = html.escape("; ".join(f"{title} {' / '.join(_digits(value))}" for title, value in shown.scores.items()))
    layers = "".join(
        f'<img alt="{html.escape(title)}" src="{_data_uri(image)}">' for title, image in shown.images.items()
    )
    return (
        f'<figure id="{label}" data-name="{label}"><figcaption><b>{html.escape(result.name)}</b>'
        f"<span>{size}</span><span>{numbers} (standard)</span></figcaption>"
        f'<div class="view" tabindex="0" role="group" aria-label="{label}: compare" data-width="{width}" '
        f'data-height="{height}">{layers}</div></figure>'
    )


def _above_one(evaluation: Evaluation) -> str:
    """A remark where the `official` SSIM of images is more than 1, which a similarity cannot be."""
    above = [result for result in evaluation.images if result.scores.get("official", Score(0, 0)).ssim > 1]
    if not above:
        return ""
    largest = max(above, key=lambda result: result.scores["official"].ssim)
    names = first_names([html.escape(result.key) for result in above])
    return (
        f"<p>The <b>official</b> SSIM of {names} is above 1 (up to {largest.scores['official'].ssim:.4f}), which "
        "no similarity can be: that code computes variances near 0 as differences of numbers near 1.8e7 in float32, "
        "where neighbours are 1 or 2 apart. The number is what it prints; look at <b>standard</b>.</p>"
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
        ours = result.scores["standard"].psnr
        gain = 0.0 if ours == base.psnr else ours - base.psnr  # both may be infinite
        numbers += [(_digits(base)[0], base.psnr), (f"{gain:+.2f}", gain)]
        cells = [_cell(html.escape(result.set_name), result.set_name, "text"), _cell(name, result.name, "text")]
        cells += [_cell(_size(result.width, result.height), result.width * result.height)]
        body += f"<tr>{''.join(cells + [_cell(*number) for number in numbers])}</tr>"
    return f'<table class="sortable"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'


def _cell(content: str, value: str | float, kind: str = "") -> str:
    value = value if isinstance(value, str) else json.dumps(value)  # an infinity as JavaScript writes it
    return f'<td class="{kind}" data-value="{html.escape(value)}">{content}</td>'


def _size(width: int, height: int) -> str:
    return f"{width}\N{MULTIPLICATION SIGN}{height}"


def _digits(value: Score) -> tuple[str, str]:
    return f"{value.psnr:.2f}", f"{value.ssim:.4f}"


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()

"""``report.html``: the numbers of a test run and images to compare, in one file that needs no network.

The images of each choice (bicubic, SR, HR, and the SR of a second run) are embedded as lossless WebP; error maps are
computed by the page.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from ssiu.data.test_sets import BenchmarkSet
from ssiu.evaluation.evaluate import image_file
from ssiu.evaluation.metrics import Score
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.images.bicubic import imresize
from ssiu.images.io import read_rgb
from ssiu.report.comparison import Method, compare
from ssiu.report.pages import render
from ssiu.report.scored import ScoredNetwork
from ssiu.report.tables import Number

SHOWN = 6  # images of each set
LONGEST = 16_383  # pixels of a side of a WebP image
PIXELS = 2_000_000  # of HR, over all images where 6 of each set are shown: about 7 MB of page


@dataclass(frozen=True)
class OtherRun:
    """A second run on the same images: what it is called, its folder of SR ``images``, its scores."""

    name: str
    images: Path
    evaluation: Evaluation

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Under `standard`, by ``Set5/baby``."""
        return {image.key: image.scores["standard"] for image in self.evaluation.images}


@dataclass(frozen=True)
class Shown:
    """One choice for the page: what is cut out of the image (whole where ``box`` covers it), uint8 (h, w, 3) each.

    ``scores`` (`standard`) are of whole images, under the names that their ``images`` have.
    """

    result: ImageResult
    scores: dict[str, Score]
    box: tuple[int, int, int, int]  # left, top, width, height in HR pixels
    images: dict[str, np.ndarray]

    @property
    def place(self) -> str:
        """Its size, and where it was cut out of a larger image."""
        left, top, width, height = self.box
        if (width, height) == (self.result.width, self.result.height):
            return _size(width, height)
        return f"{_size(width, height)} at ({left}, {top}) of {_size(self.result.width, self.result.height)}"

    @property
    def numbers(self) -> str:
        """PSNR and SSIM of every image that has them."""
        return "; ".join(f"{title} {psnr:.2f} / {ssim:.4f}" for title, (psnr, ssim) in self.scores.items())

    def addresses(self) -> Iterator[tuple[str, str]]:
        """Every image as a data URI, with its name."""
        for title, image in self.images.items():
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=3)
            yield title, "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Row:
    """An image in the table of all: where its name leads, if anywhere, and its numbers with all digits."""

    result: ImageResult
    link: str
    numbers: list[Number]


def report_page(
    scored: ScoredNetwork,
    facts: dict[str, str],
    shown: Sequence[Shown],
    image_folder: Path | None,
    other: OtherRun | None = None,
) -> bytes:
    """The page.

    Args:
        facts: what stands under the title, such as the weights and the command.
        shown: the images to compare, see `choose`.
        image_folder: folder of the SR images relative to the page, or None where they were not saved.
        other: a second run, whose scores stand beside this one's.
    """
    evaluation = scored.evaluation
    titles = [f"{number} ({protocol})" for protocol in evaluation.protocols for number in ("PSNR", "SSIM")]
    titles += ["bicubic PSNR (standard)", "gain dB"]
    compared = None
    if other:
        titles += [f"{other.name}'s PSNR (standard)", "gain on it, dB"]
        compared = compare(Method(other.name, [other.evaluation]), Method("this run", [evaluation])).table()
    by_set = {name: [each for each in shown if each.result.set_name == name] for name in evaluation.sets}
    return render(
        "report/results_page.html",
        title=scored.title,
        facts=facts,
        means=scored.table(),
        protocols=evaluation.protocols,
        compared=compared,
        titles=titles,
        rows=_rows(scored, shown, image_folder, other),
        shown={name: figures for name, figures in by_set.items() if figures},
        saved=image_folder is not None,
        summary=scored.summary(),
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


def _rows(
    scored: ScoredNetwork, shown: Sequence[Shown], image_folder: Path | None, other: OtherRun | None
) -> Iterator[Row]:
    figures = {each.result.key for each in shown}
    for result, baseline in zip(scored.evaluation.images, scored.bicubic.images, strict=True):
        link = ""
        if image_folder is not None:
            file = image_folder / image_file(result.set_name, result.name, scored.config.scale)
            link = f"#{quote(result.key)}" if result.key in figures else quote(file.as_posix())
        numbers = [
            Number(*each) for score in result.scores.values() for each in zip(score, (".2f", ".4f"), strict=True)
        ]
        for base in (baseline.scores["standard"], *([other.scores[result.key]] if other else [])):
            numbers += _gain(result.scores["standard"].psnr, base.psnr)
        yield Row(result, link, numbers)


def _gain(psnr: float, base: float) -> tuple[Number, Number]:
    """``base``, and how far ``psnr`` is above it; both may be infinite."""
    return Number(base, ".2f"), Number(0.0 if psnr == base else psnr - base, "+.2f")


def _size(width: int, height: int) -> str:
    return f"{width}\N{MULTIPLICATION SIGN}{height}"

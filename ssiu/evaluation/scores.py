"""The scores of the images of test sets: their means, summary.json, and what has to be said of them."""

import csv
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssiu import __version__
from ssiu.errors import BadInputError, MissingInputError, first_names
from ssiu.evaluation.metrics import KNOWN, Score, mean_score
from ssiu.files import csv_text

SUMMARY, PER_IMAGE = "summary.json", "per_image.csv"  # what `test.py` writes scores into

NO_SUMMARY = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What reading any other document as a summary raises."""


@dataclass(frozen=True)
class ImageResult:
    """One image of a test set: its HR size in pixels, and its score under each protocol."""

    set_name: str
    name: str
    width: int
    height: int
    scores: dict[str, Score]

    @property
    def key(self) -> str:
        """``Set5/baby``."""
        return f"{self.set_name}/{self.name}"


@dataclass(frozen=True)
class Evaluation:
    """The scores of all images, in the order of the test sets and of the names in them, and the day they were made."""

    images: list[ImageResult]
    protocols: tuple[str, ...]
    date: datetime.date = field(default_factory=datetime.date.today)

    @property
    def sets(self) -> list[str]:
        """Names of the test sets."""
        return list(dict.fromkeys(image.set_name for image in self.images))

    def of(self, set_name: str) -> list[ImageResult]:
        """The images of one set."""
        return [image for image in self.images if image.set_name == set_name]

    def mean(self, set_name: str, protocol: str | None = None) -> Score:
        """Mean PSNR and SSIM over the images of a set, under the first protocol unless another is named."""
        return mean_score(image.scores[protocol or self.protocols[0]] for image in self.of(set_name))

    @property
    def means(self) -> dict[str, dict[str, Score]]:
        """``means[protocol][set name]``."""
        return {protocol: {name: self.mean(name, protocol) for name in self.sets} for protocol in self.protocols}

    def exact(self, set_name: str, protocol: str) -> list[str]:
        """The images of a set that equal their originals: their PSNR is infinite and not in its mean."""
        return [image.name for image in self.of(set_name) if image.scores[protocol].psnr == math.inf]

    def remarks(self) -> tuple[str, ...]:
        """What a reader of the means has to know, a sentence each."""
        found = []
        for name in self.sets:
            for protocol in self.protocols:
                if exact := self.exact(name, protocol):
                    found.append(
                        f"{name} ({protocol}): {len(exact)} of {len(self.of(name))} images equal their originals "
                        f"({first_names(exact)}); their PSNR is infinite and left out of the mean."
                    )
        above = [image for image in self.images if image.scores.get("official", Score(0, 0)).ssim > 1]
        if above:
            largest = max(image.scores["official"].ssim for image in above)
            found.append(
                f"The official SSIM of {first_names(image.key for image in above)} is above 1 (up to {largest:.4f}), "
                "which no similarity can be: that code computes variances near 0 as differences of numbers near 1.8e7 "
                "in float32, where neighbours are 1 or 2 apart. The number is what it prints; look at standard."
            )
        return tuple(found)

    def summary(
        self,
        *,
        model: str,
        scale: int,
        checkpoint: str | None = None,
        weights_sha256: str | None = None,
        precision: str | None = None,
        self_ensemble: bool | None = None,
    ) -> dict[str, Any]:
        """What ``summary.json`` holds; what is not known is null there, as is the PSNR of a set of equal images.

        Where some images equal their originals, ``exact`` names them.
        """
        return {
            "model": model,
            "scale": scale,
            "checkpoint": checkpoint,
            "weights_sha256": weights_sha256,
            "precision": precision,
            "self_ensemble": self_ensemble,
            "version": __version__,
            "date": self.date.isoformat(),
            "protocols": {
                protocol: {
                    name: {"psnr": _finite(mean.psnr), "ssim": mean.ssim, "images": len(self.of(name))}
                    | ({"exact": exact} if (exact := self.exact(name, protocol)) else {})
                    for name, mean in sets.items()
                }
                for protocol, sets in self.means.items()
            },
        }

    def per_image_csv(self) -> str:
        """One line an image with all digits."""
        numbers = [f"{protocol}_{number}" for protocol in self.protocols for number in Score._fields]
        lines = (
            [image.set_name, image.name, image.width, image.height]
            + [value for protocol in self.protocols for value in image.scores[protocol]]
            for image in self.images
        )
        return csv_text(["set", "name", "width", "height", *numbers], lines)


def read_per_image(path: Path) -> Evaluation:
    """What `Evaluation.per_image_csv` wrote.

    Raises MissingInputError (66) where there is no such file, BadInputError (65) where it is another one.
    """
    images = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            protocols = tuple(each for each in KNOWN if f"{each}_psnr" in (reader.fieldnames or ()))
            for line in reader:
                scores = {p: Score(*(_number(line[f"{p}_{number}"]) for number in Score._fields)) for p in protocols}
                size = int(line["width"]), int(line["height"])
                images.append(ImageResult(line["set"], line["name"], *size, scores))
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror}; expected the per_image.csv of test.py") from None
    except (csv.Error, *NO_SUMMARY):
        protocols = ()
    if "standard" not in protocols or len({image.key for image in images}) < len(images):
        raise BadInputError(f"{path} is not from test.py; name another, or test that run again")
    return Evaluation(images, protocols)


def summary_means(summary: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
    """`Evaluation.means` of what `Evaluation.summary` made.

    Of any other document it raises one of `NO_SUMMARY`.
    """
    return {
        protocol: {
            str(name): Score(math.inf if mean["psnr"] is None else float(mean["psnr"]), float(mean["ssim"]))
            for name, mean in sets.items()
        }
        for protocol, sets in summary["protocols"].items()
        if protocol in KNOWN
    }


def _number(text: str) -> float:
    """ValueError for text that is no number, NaN included."""
    if math.isnan(value := float(text)):
        raise ValueError(text)
    return value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

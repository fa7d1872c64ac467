"""Why a printed cell does not come out: which protocols print this PSNR and SSIM of these images.

A protocol is an answer to each of eight questions (`CHOICES`). Tried are those of known evaluation code (`KNOWN`) and
all that differ from one of them in one or two answers. So many would explain any number, so every hit is given with the
share of made-up cells that would have been hit, too, and only as many protocols count as keep that share small.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple

from ssiu.errors import ConfigError
from ssiu.evaluation.measures import Measure, Measured
from ssiu.evaluation.metrics import Score, mean_score, score_of_error

DEPTH = 2  # answers that may differ from a known protocol's
AROUND = Score(0.3, 0.003)  # made-up cells lie as near as this to the claimed one
MOST_CHANCE = 0.04  # that such a cell would have been named
SAME = Score(1e-6, 1e-7)  # what differs by less is one class

CHOICES: dict[str, dict[str, str]] = {
    "pixels": {
        "8 bit": "SR clamped and rounded to 8 bit",
        "clamped": "SR clamped, not rounded",
        "raw": "SR neither clamped nor rounded",
    },
    "crop": {
        "whole": "images not cropped",
        "mod 12": "images cropped to multiples of 12",
        "even": "images cropped to even sides",
    },
    "border": {
        "scale": "a border of the scale left out",
        "none": "no border left out",
        "scale + 6": "a border of the scale + 6 left out",
        "4": "a border of 4 left out",
    },
    "color": {
        "luma": "luma 16 to 235, not rounded",
        "luma rounded": "luma rounded (MATLAB's rgb2ycbcr)",
        "luma + 4080": "SSIM of luma + 4080 (the offset 16 times 255)",
        "full luma": "luma 0 to 255",
        "full luma rounded": "luma 0 to 255, rounded (gray of OpenCV and Pillow)",
        "BT.709": "scikit-image's rgb2gray (BT.709)",
        "RGB": "RGB",
    },
    "gray": {"replicated": "gray images replicated to RGB", "as they are": "gray images taken as luma 0 to 255"},
    "window": {
        "Gaussian": "SSIM by the 11x11 Gaussian where it fits",
        "zeros around": "SSIM with zeros around the image (pytorch-ssim)",
        "edges repeated": "SSIM with repeated edges (MATLAB's ssim)",
        "mirrored": "SSIM with mirrored edges (kornia)",
        "unbiased": "SSIM with unbiased variances (scikit-image's Gaussian)",
        "7x7": "SSIM by 7x7 means (scikit-image's default)",
        "reduced": "SSIM of images reduced to about 256 (piq)",
    },
    "average": {"PSNR": "mean of PSNR", "MSE": "PSNR of the mean MSE"},
    "rounding": {"nearest": "means rounded", "up": "means rounded up", "down": "means cut off"},
}
"""The questions, their answers and how an answer is said."""


class Protocol(NamedTuple):
    """An answer to every question of `CHOICES`."""

    pixels: str = "8 bit"
    crop: str = "whole"
    border: str = "scale"
    color: str = "luma"
    gray: str = "replicated"
    window: str = "Gaussian"
    average: str = "PSNR"
    rounding: str = "nearest"

    @property
    def measure(self) -> Measure:
        """What is asked of every image."""
        return Measure(*self[: len(Measure._fields)])


SAID = {"official": "official (luma + 4080: the offset 16 times 255)", "MATLAB": "MATLAB (luma rounded)"}
KNOWN = {
    "standard": Protocol(),
    "official": Protocol(pixels="raw", color="luma + 4080", rounding="up"),
    "float": Protocol(pixels="raw"),
    "MATLAB": Protocol(color="luma rounded"),
    "scikit-image on RGB": Protocol(border="none", color="RGB", window="7x7"),
}
"""What evaluation code is known to do, and what is said of it where the name does not say enough."""


class Claim(NamedTuple):
    """A printed cell: PSNR and SSIM in units of their last digits, and how many digits each has behind the point."""

    psnr: int
    ssim: int
    digits: tuple[int, int]


@dataclass(frozen=True)
class Explanation:
    """Protocols that give the same ``score`` here, as they are said, and those of them nearest to a known one.

    ``changes``: in how many answers these differ. ``chance``: the share of the cells around the claimed one that
    some protocol prints which is as near.
    """

    score: Score
    protocols: tuple[str, ...]
    nearest: tuple[str, ...]
    changes: int
    chance: float


def read_claim(text: str) -> Claim:
    """``32.58/0.8998`` as papers print it. Raises ConfigError (78) for anything else."""
    numbers = [part.strip() for part in text.split("/")]
    try:
        psnr, ssim = map(float, numbers)
        places = [len(number.partition(".")[2]) for number in numbers]
    except ValueError:
        psnr, ssim, places = math.nan, math.nan, []
    if not (0 < psnr < 100 and 0 < ssim < 1.1 and places[0] in (1, 2, 3, 4) and places[1] in (2, 3, 4, 5, 6)):
        raise ConfigError(f"--claimed {text}: expected PSNR/SSIM as they are printed, such as 32.58/0.8998")
    return Claim(round(psnr * 10 ** places[0]), round(ssim * 10 ** places[1]), (places[0], places[1]))


def protocols(scale: int, raw: bool) -> dict[Protocol, tuple[int, str]]:
    """All protocols that are tried: in how many answers they differ from the nearest known one, and how they are said.

    ``raw``: whether a network's own output is there.
    """
    choices = {name: list(answers) for name, answers in CHOICES.items()}
    if not raw:
        choices["pixels"] = ["8 bit"]
    if scale == 4:
        choices["border"].remove("4")
    found: dict[Protocol, tuple[int, str]] = {}
    for count in range(DEPTH + 1):
        for name, known in known_protocols(raw).items():
            for asked in combinations(choices, count):
                others = ([a for a in choices[question] if a != getattr(known, question)] for question in asked)
                for answers in product(*others):
                    protocol = known._replace(**dict(zip(asked, answers, strict=True)))
                    said = ", ".join(
                        [SAID.get(name, name), *(CHOICES[q][a] for q, a in zip(asked, answers, strict=True))]
                    )
                    if _is_possible(protocol):
                        found.setdefault(protocol, (count, said))
    return found


def known_protocols(raw: bool) -> dict[str, Protocol]:
    """`KNOWN`; on 8-bit images where no ``raw`` output is there, without those that are another one then."""
    found: dict[str, Protocol] = {}
    for name, protocol in KNOWN.items():
        here = protocol if raw else protocol._replace(pixels="8 bit")
        if here not in found.values():
            found[name] = here
    return found


def _is_possible(protocol: Protocol) -> bool:
    """The offset is known of one window only, and leaves nothing to leave out a border from."""
    return protocol.color != "luma + 4080" or (protocol.window == "Gaussian" and protocol.border != "none")


def means(images: Sequence[Mapping[Measure, Measured]], tried: Iterable[Protocol]) -> dict[Protocol, Score]:
    """The means over ``images`` under each of ``tried``."""
    return {protocol: mean(images, protocol) for protocol in tried}


def explain(
    scores: Mapping[Protocol, Score], tried: Mapping[Protocol, tuple[int, str]], claim: Claim
) -> list[Explanation]:
    """The protocols among ``tried`` whose ``scores`` are printed as ``claim``, nearest first."""
    cells = {protocol: printed(score, protocol.rounding, claim.digits) for protocol, score in scores.items()}
    chances = [_chance(claim, [cells[p] for p in tried if tried[p][0] <= changes]) for changes in range(DEPTH + 1)]
    classes: list[list[Protocol]] = []
    for protocol in tried:  # nearest first
        if cells[protocol] != claim[:2] or chances[tried[protocol][0]] > MOST_CHANCE:
            continue
        same = next((each for each in classes if _equal(scores[each[0]], scores[protocol])), None)
        if same is None:
            classes.append([protocol])
        else:
            same.append(protocol)
    found = []
    for alike in classes:
        changes = tried[alike[0]][0]
        nearest = tuple(tried[p][1] for p in alike if tried[p][0] == changes)
        said = tuple(tried[p][1] for p in alike)
        found.append(Explanation(scores[alike[0]], said, nearest, changes, chances[changes]))
    return found


def _equal(one: Score, other: Score) -> bool:
    return all(abs(a - b) < least for a, b, least in zip(one, other, SAME, strict=True))


def mean(images: Sequence[Mapping[Measure, Measured]], protocol: Protocol) -> Score:
    """The means of a set under ``protocol``, not rounded; NaN where an image has none."""
    measured = [image[protocol.measure] for image in images]
    if any(math.isnan(each.error) for each in measured):
        return Score(math.nan, math.nan)
    if protocol.average == "MSE":
        error = math.fsum(each.error for each in measured) / len(measured)
        return score_of_error(error, mean_score(score_of_error(*each) for each in measured).ssim)
    return mean_score(score_of_error(*each) for each in measured)


def printed(score: Score, rounding: str, digits: tuple[int, int]) -> tuple[int, ...]:
    """The cell of ``score`` in units of its last digits; empty where it is not finite."""
    if not all(map(math.isfinite, score)):
        return ()
    shift = {"nearest": 0.0, "up": 0.5, "down": -0.5}[rounding]
    return tuple(round(value * 10**places + shift) for value, places in zip(score, digits, strict=True))


def _chance(claim: Claim, cells: Iterable[tuple[int, ...]]) -> float:
    """The share of the cells around ``claim`` that are among ``cells``."""
    reach = [round(around * 10**places) for around, places in zip(AROUND, claim.digits, strict=True)]
    near = {
        cell for cell in cells if cell and all(abs(a - b) <= r for a, b, r in zip(cell, claim[:2], reach, strict=True))
    }
    return len(near) / math.prod(2 * r + 1 for r in reach)

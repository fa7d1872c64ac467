"""What the HR images of a set are like: sizes, gray ones, duplicates, traces of JPEG, flat patches, gradients."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssiu.errors import SSIUError
from ssiu.images.bicubic import make_lr
from ssiu.images.io import read_rgb
from ssiu.images.parallel import in_parallel

BLOCK = 8  # pixels: side of the blocks of JPEG
BLOCKY = 1.2  # blockiness of JPEG at quality 30 and below; of 19 photographs without (Set5, Set14) none passes 1.14
PATCH = 32  # pixels: side of the patches that are flat or not
FLAT = 2.0  # of 255: standard deviation of the luma of a flat patch, at most
SCALE = 4  # of the LR images whose gradients are taken


@dataclass(frozen=True)
class ImageFacts:
    """One image. ``energy`` is the mean squared gradient of the luma of its LR image, in squared steps of 255."""

    name: str
    size: tuple[int, int]  # height, width
    gray: bool
    sha256: str  # of the pixels
    blockiness: float  # steps between the blocks of JPEG / steps inside them
    flat: float  # 0-1: share of its patches
    energy: float


def set_facts(images: Mapping[str, Path]) -> tuple[list[ImageFacts], list[SSIUError]]:
    """The facts of every image, by name, and what is wrong with those that cannot be read."""
    found = list(in_parallel(lambda item: _facts(*item), list(images.items()), "reading images"))
    return [each for each in found if isinstance(each, ImageFacts)], [e for e in found if isinstance(e, SSIUError)]


def _facts(name: str, path: Path) -> ImageFacts | SSIUError:
    try:
        rgb = read_rgb(path)
    except SSIUError as error:
        return error
    height, width, _ = rgb.shape
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    shape = f"{height}x{width}".encode()
    return ImageFacts(
        name,
        (height, width),
        bool((rgb == rgb[..., :1]).all()),
        hashlib.sha256(shape + rgb.tobytes()).hexdigest(),
        blockiness(luma),
        _flat_share(luma),
        _energy(rgb),
    )


def blockiness(luma: np.ndarray) -> float:
    """Mean step of (H, W) from one block of 8x8 to the next / the largest mean step at another place of the blocks.

    So an enlarged image does not seem blocky. It is 1 for flat images and those with a side of 8 pixels or less.
    """
    if min(luma.shape) <= BLOCK:
        return 1.0
    across = np.abs(np.diff(luma, axis=0)).mean(axis=1), np.abs(np.diff(luma, axis=1)).mean(axis=0)
    *inside, between = (sum(steps[place::BLOCK].mean() for steps in across) for place in range(BLOCK))
    return float(between / max(inside)) if max(inside) > 0 else 1.0


def _flat_share(luma: np.ndarray) -> float:
    height, width = (max(side // PATCH, 1) for side in luma.shape)
    rows, columns = luma.shape[0] // height, luma.shape[1] // width  # of an image smaller than a patch: itself
    patches = luma[: height * rows, : width * columns].reshape(height, rows, width, columns)
    return float((patches.std(axis=(1, 3)) <= FLAT).mean())


def _energy(rgb: np.ndarray) -> float:
    lr = make_lr(rgb, SCALE) if min(rgb.shape[:2]) >= SCALE else rgb
    luma = cv2.cvtColor(lr, cv2.COLOR_RGB2GRAY).astype(np.float32)
    squares = [np.square(np.diff(luma, axis=axis)) for axis in (0, 1)]
    return float(sum(each.mean() for each in squares if each.size))


def duplicates(facts: Sequence[ImageFacts]) -> int:
    """How many images have the pixels of another one before them."""
    return sum(count - 1 for count in Counter(each.sha256 for each in facts).values())


def hardest(facts: Sequence[ImageFacts], share: float) -> list[str]:
    """The names of that share of the images, at least one, with the most gradient energy; sorted."""
    count = max(round(share * len(facts)), 1)
    return sorted(each.name for each in sorted(facts, key=lambda each: (-each.energy, each.name))[:count])

"""Small test sets cut from the photographs inside scikit-image, on disk in the usual layout."""

from pathlib import Path

import numpy as np
from skimage import data
from toy_sets import write_pairs

PHOTOS = {"astronaut": data.astronaut, "coffee": data.coffee, "chelsea": data.chelsea}
WHERE = {"astronaut": (20, 170), "coffee": (100, 200), "chelsea": (60, 110)}


def photo(name: str, height: int, width: int) -> np.ndarray:
    """A piece of a photograph, uint8 (height, width, 3)."""
    top, left = WHERE[name]
    return np.ascontiguousarray(PHOTOS[name]()[top : top + height, left : left + width])


def write_set(root: Path, name: str, scale: int, images: dict[str, np.ndarray]) -> Path:
    """Writes HR and LR of ``images`` as the benchmark set ``name``; returns ``root``."""
    write_pairs(root / "benchmark" / name, images, scale)
    return root


def small_set(root: Path, scale: int, name: str = "Set5") -> Path:
    """Three images of different, odd sizes."""
    sizes = {"astronaut": (64, 81), "chelsea": (50, 47), "coffee": (45, 70)}
    return write_set(root, name, scale, {stem: photo(stem, *size) for stem, size in sizes.items()})

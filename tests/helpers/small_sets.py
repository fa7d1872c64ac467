"""Small test sets cut from the photographs inside scikit-image, on disk in the usual layout."""

from pathlib import Path

import numpy as np
from skimage import data

from ssiu.data.bicubic import imresize
from ssiu.data.images import save_image

PHOTOS = {"astronaut": data.astronaut, "coffee": data.coffee, "chelsea": data.chelsea}
WHERE = {"astronaut": (20, 170), "coffee": (100, 200), "chelsea": (60, 110)}


def photo(name: str, height: int, width: int) -> np.ndarray:
    """A piece of a photograph, uint8 (height, width, 3)."""
    top, left = WHERE[name]
    return np.ascontiguousarray(PHOTOS[name]()[top : top + height, left : left + width])


def write_set(root: Path, name: str, scale: int, images: dict[str, np.ndarray]) -> Path:
    """Writes HR and LR of ``images`` as the benchmark set ``name``; returns ``root``."""
    for stem, hr in images.items():
        height, width = (side // scale * scale for side in hr.shape[:2])
        for path, image in (
            (root / "benchmark" / name / "HR" / f"{stem}.png", hr),
            (
                root / "benchmark" / name / "LR_bicubic" / f"X{scale}" / f"{stem}x{scale}.png",
                imresize(hr[:height, :width], scale=1 / scale),
            ),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(path, image)
    return root


def small_set(root: Path, scale: int, name: str = "Set5") -> Path:
    """Three images of different, odd sizes."""
    sizes = {"astronaut": (64, 81), "chelsea": (50, 47), "coffee": (45, 70)}
    return write_set(root, name, scale, {stem: photo(stem, *size) for stem, size in sizes.items()})

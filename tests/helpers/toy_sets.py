"""Writes small data sets in the usual layout."""

from pathlib import Path

import numpy as np

from ssiu.images.bicubic import make_lr
from ssiu.images.io import save_image


def write_pairs(folder: Path, images: dict[str, np.ndarray], scale: int) -> Path:
    """``images`` as folder/HR/{name}.png with their LR as folder/LR_bicubic/X{scale}/{name}x{scale}.png."""
    for sub in ("HR", f"LR_bicubic/X{scale}"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for name, hr in images.items():
        save_image(folder / f"HR/{name}.png", hr)
        save_image(folder / f"LR_bicubic/X{scale}/{name}x{scale}.png", make_lr(hr, scale))
    return folder


def write_set(root: Path, names: list[str], scale: int = 2, size: tuple[int, int] = (40, 60), seed: int = 0) -> None:
    """A set of HR noise in ``root``."""
    rng = np.random.default_rng(seed)
    write_pairs(root, {name: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for name in names}, scale)

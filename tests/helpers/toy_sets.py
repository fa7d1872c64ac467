"""Writes small data sets."""

from pathlib import Path

import numpy as np

from ssiu.data.bicubic import make_lr
from ssiu.data.images import save_image


def write_set(root: Path, names: list[str], scale: int = 2, size: tuple[int, int] = (40, 60), seed: int = 0) -> None:
    """HR noise and its LR in ``root``'s layout: HR/{name}.png, LR_bicubic/X{scale}/{name}x{scale}.png."""
    rng = np.random.default_rng(seed)
    (root / "HR").mkdir(parents=True, exist_ok=True)
    (root / f"LR_bicubic/X{scale}").mkdir(parents=True, exist_ok=True)
    for name in names:
        hr = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        save_image(root / f"HR/{name}.png", hr)
        save_image(root / f"LR_bicubic/X{scale}/{name}x{scale}.png", make_lr(hr, scale))

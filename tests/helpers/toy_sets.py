"""Writes small data sets in the usual layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssiu.data.catalog import SETS, Part
from ssiu.images.bicubic import make_lr


def write_pairs(folder: Path, images: dict[str, np.ndarray], scale: int) -> Path:
    """``images`` as folder/HR/{name}.png with their LR as folder/LR_bicubic/X{scale}/{name}x{scale}.png."""
    for sub in ("HR", f"LR_bicubic/X{scale}"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for name, hr in images.items():
        _save(folder / f"HR/{name}.png", hr)
        _save(folder / f"LR_bicubic/X{scale}/{name}x{scale}.png", make_lr(hr, scale))
    return folder


def _save(path: Path, image: np.ndarray) -> None:
    """The bytes that commit f7a8675 wrote, whatever encodes today: its checkpoint knows their digest."""
    Image.fromarray(image).save(path, compress_level=3)


def write_set(root: Path, names: list[str], scale: int = 2, size: tuple[int, int] = (40, 60), seed: int = 0) -> None:
    """A set of HR noise in ``root``."""
    rng = np.random.default_rng(seed)
    write_pairs(root, {name: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for name in names}, scale)


def shorten_df2k(monkeypatch: pytest.MonkeyPatch) -> None:
    """DF2K is the first two images of DIV2K and of Flickr2K: 0001, 0002, 0901, 0902."""
    parts = {"DIV2K": Part(first=1, last=2, digits=4, added=0), "Flickr2K": Part(first=1, last=2, digits=6, added=900)}
    monkeypatch.setitem(SETS, "DF2K", SETS["DF2K"].model_copy(update={"parts": parts}))

"""Test sets as they are given to `evaluate` in Python: loaded, a folder of one, or images in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssiu.data.pairs import Pair
from ssiu.data.test_sets import BenchmarkSet, load_test_set
from ssiu.errors import BadInputError
from ssiu.evaluation.metrics import rgb

Given = str | Path | Sequence[BenchmarkSet] | Sequence[tuple[Any, Any]]
"""Test sets, the folder of one, or (LR, HR) images: Pillow images or arrays, uint8 (h, w, 3) or gray (h, w)."""


class ImagesInMemory(BenchmarkSet):
    """The set called ``images``; its images are called by their number, from 0. Raises BadInputError (65)."""

    def __init__(self, images: Sequence[tuple[Any, Any]]):
        self.images = [(rgb(lr).copy(), rgb(hr)) for lr, hr in images]  # torch takes what can be written to
        pairs, scale = [], 0
        for index, (lr, hr) in enumerate(self.images):
            scale = scale or hr.shape[0] // max(lr.shape[0], 1)
            over = [large - scale * small for large, small in zip(hr.shape[:2], lr.shape[:2], strict=True)]
            if scale < 1 or not all(0 <= each < scale for each in over):
                small, large = ("{1}x{0}".format(*image.shape) for image in (lr, hr))
                raise BadInputError(f"image {index}: LR is {small} and HR {large}; expected {scale or 'some'} times it")
            pairs.append(Pair(f"{index}", None, Path(f"{index}"), lr.shape[:2], hr.shape[:2], (lr.nbytes, hr.nbytes)))
        super().__init__("images", pairs, scale)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray]:
        lr, hr = self.images[index]
        return self.pairs[index].name, lr, hr[: self.scale * lr.shape[0], : self.scale * lr.shape[1]]


def sets_given(given: Given, scale: int | None) -> list[BenchmarkSet]:
    """What is meant by ``given``; ``scale`` is the network's, which a folder needs.

    Raises as `load_test_set` for a folder, and BadInputError (65) for images in memory that are none or do not fit.
    """
    if isinstance(given, str | Path):
        if scale is None:
            raise BadInputError(f"{given}: the network has no attribute 'scale', so its LR images are not known")
        folder = Path(given).absolute()
        return [load_test_set(folder.parent, folder.name, scale)]
    sets = [each for each in given if isinstance(each, BenchmarkSet)]
    images = [each for each in given if not isinstance(each, BenchmarkSet)]
    return [*sets, *([ImagesInMemory(images)] if images else [])]

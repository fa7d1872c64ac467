"""MATLAB's `imresize(image, scale, "bicubic")`, bit for bit.

The LR images of every published SR result were made by this function. It differs from what Python's image
libraries do in five ways: a = -0.5 in the cubic; the kernel is widened when shrinking; the border is mirrored,
edge pixel included; the dimension with the smaller scale goes first; uint8 is rounded, half up, after each of
the two passes.

Each pass is a product with a banded matrix, cut into small dense blocks: BLAS does the work at full precision.
"""

from functools import lru_cache
from math import ceil

import numpy as np

ROWS = 4  # output rows per block: the smallest that keeps BLAS busy; larger ones multiply more zeros
HALF_UP = 0.5 + 1e-9  # a sum that is exactly k + 0.5 must not fall below it by rounding errors (about 1e-13)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5; zero from |x| = 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def _blocks(length: int, out_length: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (out_length, length) of one pass as dense blocks along its diagonal.

    Returns ``first`` (n,), the first input row of each block, and ``weights`` (n, ROWS, K): output rows
    ``i * ROWS ...`` are ``weights[i] @ input[first[i] : first[i] + K]``.
    """
    widen = min(scale, 1.0)  # shrinking: the kernel covers 4 / scale input pixels
    width = 4 / widen
    centre = (np.arange(out_length) + 0.5) / scale - 0.5  # of each output pixel, in input pixels
    taps = np.floor(centre - width / 2)[:, None] + np.arange(ceil(width) + 2)  # (out, taps), may lie outside
    weight = _cubic(widen * (centre[:, None] - taps))
    weight /= weight.sum(axis=1, keepdims=True)
    index = np.mod(taps, 2 * length).astype(np.int64)
    index = np.where(index < length, index, 2 * length - 1 - index)  # mirrored, edge pixel included

    rows = np.minimum(np.arange(-(-out_length // ROWS) * ROWS), out_length - 1)  # the last block is filled up
    index, weight = index[rows], weight[rows]
    blocks = index.reshape(-1, ROWS * index.shape[1])
    span = int((blocks.max(axis=1) - blocks.min(axis=1)).max()) + 1
    first = np.minimum(blocks.min(axis=1), length - span)
    weights = np.zeros((len(first), ROWS, span))
    block, row = np.divmod(np.arange(len(rows)), ROWS)
    np.add.at(weights, (block[:, None], row[:, None], index - first[block][:, None]), weight)  # folds the mirror in
    return first, weights


def _resize_rows(image: np.ndarray, out_length: int, scale: float) -> np.ndarray:
    """One pass over the first dimension: (H, ...) -> (out_length, ...), same dtype."""
    flat = image.reshape(image.shape[0], -1)
    result = np.empty((out_length, flat.shape[1]), image.dtype)
    first, weights = _blocks(image.shape[0], out_length, scale)
    span = weights.shape[2]
    for block, start in enumerate(first):
        rows = weights[block] @ flat[start : start + span].astype(np.float64, copy=False)
        if image.dtype == np.uint8:
            rows += HALF_UP
            np.clip(rows, 0, 255, out=rows)  # the conversion to uint8 below cuts the fraction off
        target = result[block * ROWS : (block + 1) * ROWS]
        target[:] = rows[: len(target)]
    return result.reshape(out_length, *image.shape[1:])


def imresize(image: np.ndarray, scale: float | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
    """Resizes like MATLAB.

    Args:
        image: (H, W) or (H, W, C), uint8 or floating point (computed in float64, neither rounded nor clamped).
        scale: factor for both sides; the result has ``ceil(scale * side)`` pixels.
        size: (height, width) of the result instead; each side then has its own factor.

    Returns the resized array with the dtype of ``image``.

    Raises:
        ValueError: neither or both of ``scale`` and ``size``, an empty image or result, another dtype.
    """
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"imresize expects an image (H, W) or (H, W, C), got shape {image.shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"imresize expects uint8 or floating point, got {image.dtype}")
    height, width = image.shape[:2]
    if scale is not None and size is None:
        scales = (float(scale), float(scale))
        size = (ceil(scale * height), ceil(scale * width))
    elif scale is None and size is not None:
        scales = (size[0] / height, size[1] / width)
    else:
        raise ValueError("imresize needs either scale or size")
    if min(size) < 1:
        raise ValueError(f"imresize cannot make an image of size {size}")

    def swap(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.swapaxes(x, 0, 1))

    if scales[0] <= scales[1]:
        return swap(_resize_rows(swap(_resize_rows(image, size[0], scales[0])), size[1], scales[1]))
    return _resize_rows(swap(_resize_rows(swap(image), size[1], scales[1])), size[0], scales[0])


def make_lr(hr: np.ndarray, scale: int) -> np.ndarray:
    """The LR image of ``hr`` (H, W[, 3]): HR cropped right and bottom to a multiple of ``scale``, then shrunk."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    return imresize(hr[: height * scale, : width * scale], size=(height, width))

"""Upscaling pictures of any size: whole or in tiles, and the x8 self-ensemble."""

import itertools
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ssiu.errors import DeviceMemoryError

log = logging.getLogger("ssiu")

MARGIN = 32  # LR pixels of context around a tile: beyond them SSIU's output changes by less than 1e-4
MEMORY_BUDGET = 1_000_000_000  # bytes, for tile="auto"
BYTES_PER_LR_PIXEL = 20_000  # measured: SSIU x4 with 64 channels in fp32 (x3 15,000, x2 9,000)


@torch.no_grad()  # not inference_mode: what a network caches here may be needed for training
def super_resolve(
    network: Callable[[Tensor], Tensor],
    lr: Tensor,
    tile: int | Literal["auto"] = 0,
    self_ensemble: bool = False,
    *,
    size_multiple: int | None = None,
) -> Tensor:
    """Upscales ``lr`` (B, 3, H, W) in [0, 1] to (B, 3, sH, sW), not clamped.

    Args:
        network: a model, or a callable like ``model.prepare_for_inference()``.
        tile: LR side of the square each pass of the network contributes; it sees `MARGIN` pixels more on every side and
            they are cropped away. 0 takes the whole picture at once; "auto" does so where about `MEMORY_BUDGET` bytes
            are enough, else takes the largest tile that fits, and smaller ones when memory runs out all the same.
        self_ensemble: average over the eight flips and rotations of the picture, at eight times the cost.
        size_multiple: tiles start and end at multiples of this, as the network's windows do; that of ``network`` where
            not given, else 1.

    Raises DeviceMemoryError (69) when the memory of the device does not suffice.
    """
    multiple = size_multiple or getattr(network, "size_multiple", 1)
    side = _fitting_tile(lr, multiple) if tile == "auto" else _round_up(tile, multiple)
    while True:
        upscale = partial(_tiled, network, tile=side, multiple=multiple) if side else network
        try:
            return _ensemble(upscale, lr) if self_ensemble else upscale(lr)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = _round_up((side or max(lr.shape[-2:])) // 2, multiple)
            if tile != "auto" or smaller >= (side or math.inf):
                raise DeviceMemoryError(
                    f"out of memory on {lr.device} with a {lr.shape[-1]}x{lr.shape[-2]} picture and tile={side}; "
                    f"use {'another device' if tile == 'auto' else 'tile=auto or a smaller tile'}"
                ) from None
            log.warning("out of memory on %s: going on with tiles of %d pixels", lr.device, smaller)
            side = smaller


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an allocation that failed, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _fitting_tile(lr: Tensor, multiple: int) -> int:
    """The largest tile that is expected to stay within `MEMORY_BUDGET`; 0 where the whole picture is."""
    batch, _, height, width = lr.shape
    pixels = MEMORY_BUDGET // (BYTES_PER_LR_PIXEL * batch)
    if height * width <= pixels:
        return 0
    side = math.isqrt(pixels) - 2 * _round_up(MARGIN, multiple)
    return max(side // multiple, 1) * multiple


def _tiled(network: Callable[[Tensor], Tensor], lr: Tensor, tile: int, multiple: int) -> Tensor:
    """`network` on overlapping pieces of ``lr``; every output pixel comes from the one tile it belongs to.

    Pieces start at multiples of ``multiple`` and only the last ones end elsewhere, at the border of the picture, so
    windows fall and borders are padded as they do in the whole picture.
    """
    height, width = lr.shape[-2:]
    margin = _round_up(MARGIN, multiple)
    out = None
    for top, left in itertools.product(range(0, height, tile), range(0, width, tile)):
        bottom, right = min(top + tile, height), min(left + tile, width)
        y, x = max(top - margin, 0), max(left - margin, 0)
        sr = network(lr[..., y : bottom + margin, x : right + margin])  # (B, 3, s h, s w)
        scale = sr.shape[-2] // (min(bottom + margin, height) - y)
        if out is None:
            out = sr.new_empty(*lr.shape[:2], scale * height, scale * width)
        out[..., scale * top : scale * bottom, scale * left : scale * right] = sr[
            ..., scale * (top - y) : scale * (bottom - y), scale * (left - x) : scale * (right - x)
        ]
    return out


def _ensemble(upscale: Callable[[Tensor], Tensor], lr: Tensor) -> Tensor:
    """The mean of ``upscale`` over the eight symmetries of the square, each undone in the output."""
    total = 0
    for turns, mirrored in itertools.product(range(4), (False, True)):
        x = lr.flip(-1) if mirrored else lr
        sr = upscale(torch.rot90(x, turns, (-2, -1))).float()
        sr = torch.rot90(sr, -turns, (-2, -1))
        total = total + (sr.flip(-1) if mirrored else sr)
    return total / 8

"""Upscaling images of any size: whole or in tiles, and the x8 self-ensemble."""

import itertools
import logging
from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ssiu.device import free_memory
from ssiu.errors import DeviceMemoryError, is_out_of_memory
from ssiu.inference.prepare import PreparedNetwork
from ssiu.models.layers import round_up

log = logging.getLogger("ssiu")

MARGIN = 48  # LR pixels of context around a tile: SSIU's output then differs by less than a tenth of a gray level
GPU_SHARE = 0.6  # of what is free, for tile="auto": libraries' workspace and gaps between tensors need some
RAM_SHARE = 0.4  # two runs may begin at once, and Linux kills what takes too much
SMALLEST_SIDE = 16  # of a tile that "auto" starts with
MAX_LR_PIXELS = 2_000_000  # at x4 a map of 64 channels then has almost 2^31 numbers, as far as CUDA's padding counts

Tile = int | Literal["auto"]


class Region(NamedTuple):
    """A rectangle of an image in LR pixels; ``bottom`` and ``right`` are the first row and column outside."""

    top: int
    left: int
    bottom: int
    right: int

    def at(self, scale: int) -> tuple[slice, slice]:
        """Its rows and columns in the image upscaled by ``scale``."""
        return slice(scale * self.top, scale * self.bottom), slice(scale * self.left, scale * self.right)

    def split(self, height: int, width: int) -> Iterator["Region"]:
        """Tiles of this size from the upper left corner on, smaller ones at the end."""
        for top in range(self.top, self.bottom, height):
            for left in range(self.left, self.right, width):
                yield Region(top, left, min(top + height, self.bottom), min(left + width, self.right))


def super_resolve(network: PreparedNetwork, lr: Tensor, tile: Tile = 0, self_ensemble: bool = False) -> Tensor:
    """Upscales ``lr`` (B, 3, H, W) in [0, 1] to (B, 3, sH, sW), not clamped.

    Args:
        tile: LR side of the square each pass of the network contributes; it sees `MARGIN` pixels more on every side and
            they are cropped away. 0 takes the whole image at once; "auto" does so where a share of the free memory
            is enough (`GPU_SHARE`, `RAM_SHARE`), else takes the tiles that fit and see least, and smaller ones when
            memory runs out all the same.
        self_ensemble: average over the eight flips and rotations of the image, at eight times the cost.

    Raises DeviceMemoryError (69) when the memory of the device does not suffice.
    """
    height, width = lr.shape[-2:]
    tiles = super_resolve_tiles(network, lr, tile, self_ensemble)
    first, sr = next(tiles)
    if first == Region(0, 0, height, width):
        return sr
    scale = sr.shape[-1] // (first.right - first.left)
    out = sr.new_empty(*lr.shape[:2], scale * height, scale * width)
    for region, piece in itertools.chain([(first, sr)], tiles):
        out[(..., *region.at(scale))] = piece
    return out


def super_resolve_tiles(
    network: PreparedNetwork, lr: Tensor, tile: Tile = 0, self_ensemble: bool = False
) -> Iterator[tuple[Region, Tensor]]:
    """`super_resolve` one tile at a time: (where, SR of it), so that the whole SR image need not be in memory.

    Every pixel comes from one tile. ``lr`` may have any type and be anywhere if ``network`` converts what it is given.
    """
    multiple = network.size_multiple
    whole = Region(0, 0, *lr.shape[-2:])
    if tile == "auto":
        sides = _fitting_tile(whole, pixels_at_once(network) // lr.shape[0], multiple)
    else:
        side = round_up(tile or max(whole), multiple)
        sides = side, side
    waiting = deque(whole.split(*sides))
    while waiting:
        try:
            sr = (_ensemble if self_ensemble else _upscale)(network, lr, waiting[0])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            smaller = (round_up(-(-sides[0] // 2), multiple), round_up(-(-sides[1] // 2), multiple))
            if tile != "auto" or smaller == sides:
                raise DeviceMemoryError(
                    f"out of memory with a {whole.right}x{whole.bottom} image and tile={tile}; "
                    f"use {'another device' if tile == 'auto' else 'tile=auto or a smaller tile'}"
                ) from None
            log.warning("out of memory: continuing with tiles of %dx%d pixels", *reversed(smaller))
            sides = smaller
            waiting = deque(part for region in waiting for part in region.split(*sides))
        else:
            yield waiting.popleft(), sr


def pixels_at_once(network: PreparedNetwork) -> int:
    """LR pixels that the memory of the network's device is expected to suffice for."""
    share = GPU_SHARE if network.device.type == "cuda" else RAM_SHARE
    budget = int(share * free_memory(network.device))
    return min(budget // network.bytes_per_lr_pixel, MAX_LR_PIXELS)


def _fitting_tile(whole: Region, pixels: int, multiple: int) -> tuple[int, int]:
    """Height and width of the tiles that see at most ``pixels`` each, and all together as few as need be."""
    margin = round_up(MARGIN, multiple)

    def choices(size: int) -> Iterator[tuple[int, int, int]]:
        """(side, what a tile sees along it, what all tiles do)."""
        for number in range(1, -(-size // max(multiple, SMALLEST_SIDE)) + 1):
            side = round_up(-(-size // number), multiple)
            cuts = -(-size // side) - 1
            yield side, min(side + margin * min(cuts, 2), size), size + 2 * margin * cuts

    rows, columns = list(choices(whole.bottom)), list(choices(whole.right))
    fitting = [
        (all_rows * all_columns, height, width)
        for (height, seen_rows, all_rows), (width, seen_columns, all_columns) in itertools.product(rows, columns)
        if seen_rows * seen_columns <= pixels
    ]
    _, height, width = min(fitting, default=(0, rows[-1][0], columns[-1][0]))
    return height, width


@torch.no_grad()  # not inference_mode: what a network caches here may be needed for training
def _upscale(network: PreparedNetwork, lr: Tensor, region: Region) -> Tensor:
    """SR of ``region`` (B, 3, s h, s w), from the network's output on the region and `MARGIN` around it.

    What the network sees starts at multiples of its ``size_multiple`` and ends there too, or at the border of the
    image: its windows fall, and its borders are padded, as they are in the whole image.
    """
    multiple = network.size_multiple
    y, x = (max(start - MARGIN, 0) // multiple * multiple for start in region[:2])
    seen = lr[..., y : round_up(region.bottom + MARGIN, multiple), x : round_up(region.right + MARGIN, multiple)]
    whole = lr.shape[-2:]
    if network.takes_tile_offset and seen.shape[-2:] != whole:
        sr = network(seen, torch.tensor([y, x, *whole], dtype=torch.int32, device=network.device))
    else:
        sr = network(seen)
    rows, columns = Region(region.top - y, region.left - x, region.bottom - y, region.right - x).at(
        sr.shape[-1] // seen.shape[-1]
    )
    return sr[..., rows, columns]


def _ensemble(network: PreparedNetwork, lr: Tensor, region: Region) -> Tensor:
    """The mean of `_upscale` over the eight symmetries of the square, each undone in the output."""
    total = torch.zeros(())
    for turns, mirrored in itertools.product(range(4), (False, True)):
        x, (top, left, bottom, right) = lr, region
        if mirrored:
            x, left, right = x.flip(-1), x.shape[-1] - right, x.shape[-1] - left
        for _ in range(turns):  # counterclockwise: columns from the right become rows from the top
            top, left, bottom, right = x.shape[-1] - right, top, x.shape[-1] - left, bottom
            x = torch.rot90(x, 1, (-2, -1))
        sr = torch.rot90(_upscale(network, x, Region(top, left, bottom, right)).float(), -turns, (-2, -1))
        total = total + (sr.flip(-1) if mirrored else sr)
    return total / 8

"""Bilinear upsampling of a tile as a part of its image: with align_corners it depends on the size of the whole."""

import torch
from torch import Tensor

from ssiu.models.layers import round_up


def upsampling_weights(tile_offset: Tensor, height: int, width: int, multiple: int) -> tuple[Tensor, Tensor]:
    """What `upsample_tile` needs to know of a tile, for rows (2, height, 1, 1) and columns (2, width, 1).

    ``tile_offset``: (top, left) of the tile's first pixel and (H, W) of its whole image, in pixels twice as fine as the
    map of (height, width) that is upsampled; the image is padded to a ``multiple``. Bilinear upsampling by 2 with
    align_corners gives pixel j of N two children, at ``j - j / (2N - 1)`` and at ``j + (N - 1 - j) / (2N - 1)``.
    """
    rows, columns = (
        _weights(tile_offset[axis] // 2, round_up(tile_offset[2 + axis], multiple) // 2, size)
        for axis, size in enumerate((height, width))
    )
    return rows[..., None, None], columns[..., None]


def _weights(first: Tensor, number: Tensor, size: int) -> Tensor:
    """(2, size): how far the two children of ``size`` pixels of ``number`` lie behind and before them."""
    j = first.float() + torch.arange(size, device=first.device)
    last = number.float() - 1
    return torch.stack([-j, last - j]) / (2 * last + 1)


def upsample_tile(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The part (B, C, 2h, 2w) that ``x`` (B, C, h, w) becomes when the map it is a part of is upsampled as a whole.

    Beyond the part its outermost pixels are repeated.
    """
    x = x.permute(0, 2, 3, 1)  # (B, h, w, C)
    for dim, (back, forth) in ((2, columns), (1, rows)):
        size = x.shape[dim]
        steps = x.diff(dim=dim, prepend=x.narrow(dim, 0, 1), append=x.narrow(dim, size - 1, 1))  # one more than x has
        before = torch.addcmul(x, steps.narrow(dim, 0, size), back.to(x.dtype))
        after = torch.addcmul(x, steps.narrow(dim, 1, size), forth.to(x.dtype))
        x = torch.stack([before, after], dim + 1).flatten(dim, dim + 1)
    return x.permute(0, 3, 1, 2)

"""ESAM, the efficient sparse attention module (Eq. 16-18), and the dense attention of Table III."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.models.layers import Conv1x1, Conv3x3, attention, copied, upsample_bilinear
from ssiu.models.tile_upsampling import upsample_tile

BLOCK = 8  # side of a block of queries
HALO = 1  # pixels its keys and values reach beyond it
WINDOW = BLOCK + 2 * HALO  # M of Eq. 16; neighbouring windows overlap by O = 2


class ESAM(nn.Module):
    """Attention within overlapping windows of a max-pooled map, (B, C, H, W) to the same; H, W multiples of 16.

    Eq. 16: X = MaxPool_2(f), cut into M x M windows; Eq. 17: Y = softmax(Q K^T / sqrt(d)) V;
    Eq. 18: Up_bilinear(DW_3x3(Y)). Each 8x8 block of queries sees the 10x10 window around it; beyond the map keys and
    values are zero and not masked. The learned position is added to the keys, there too: row embeddings to the first
    half of each head's channels, column embeddings to the second. ``sparse=False`` is the SAM of Table III: neither
    pooling nor depthwise convolution nor upsampling. 13,088 parameters at C = 64 with 4 heads.
    """

    def __init__(self, channels: int, num_heads: int, sparse: bool = True):
        super().__init__()
        self.num_heads = num_heads
        self.sparse = sparse
        half = channels // num_heads // 2
        self.rel_h = nn.Parameter(torch.randn(1, WINDOW, 1, half))
        self.rel_w = nn.Parameter(torch.randn(1, 1, WINDOW, half))
        if sparse:
            self.conv = Conv3x3(channels, channels, depthwise=True)
        self.qkv = Conv1x1(channels, 3 * channels, bias=False)

    def forward(self, f: Tensor, tile: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """ESAM(f); of a tile, with its `upsampling_weights`, what ESAM of the whole map is there."""
        if not self.sparse:
            return self.attend(f)
        x = self.conv(self.attend(F.max_pool2d(f, 2)))  # (B, C, H/2, W/2)
        if tile is not None:
            return upsample_tile(x, *tile)
        return upsample_bilinear(x, 2, align_corners=True)  # (B, C, H, W)

    def attend(self, x: Tensor) -> Tensor:
        """Eq. 17 on (B, C, h, w), h and w multiples of 8."""
        batch, channels, height, width = x.shape
        q, kv = self.qkv(x).permute(0, 2, 3, 1).split([channels, 2 * channels], dim=-1)  # (B, h, w, C), (B, h, w, 2C)
        q = blocks(q)  # (n, 64, C), n windows
        k, v = overlapping_windows(kv).chunk(2, dim=-1)  # (n, 100, C)
        k = k + self.position().to(k.dtype)
        q, k, v = (t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))  # (n, heads, tokens, d)
        y = attention(q, k, v).transpose(1, 2)  # (n, 64, heads, d)
        y = y.reshape(batch, height // BLOCK, width // BLOCK, BLOCK, BLOCK, channels).transpose(2, 3)
        return copied(y).view(batch, height, width, channels).permute(0, 3, 1, 2)

    def position(self) -> Tensor:
        """What a key's place in its window adds to it, (100, C): the rows' half and the columns' half, every head."""
        rows = self.rel_h.expand(-1, -1, WINDOW, -1)
        columns = self.rel_w.expand(-1, WINDOW, -1, -1)
        return torch.cat([rows, columns], dim=-1).flatten(0, 2).repeat(1, self.num_heads)


def blocks(x: Tensor) -> Tensor:
    """8x8 blocks: (B, h, w, C) to (B h/8 w/8, 64, C)."""
    x = x.unflatten(1, (-1, BLOCK)).unflatten(3, (-1, BLOCK)).transpose(2, 3)  # (B, h/8, w/8, 8, 8, C)
    return x.flatten(0, 2).flatten(1, 2)


def overlapping_windows(x: Tensor) -> Tensor:
    """10x10 windows every 8 pixels, zero beyond the map: (B, h, w, C) to (B h/8 w/8, 100, C).

    A window's rows are a block of 8 and the first 2 of the next, so are its columns; ``unfold`` has a slow gradient.
    """
    x = F.pad(x, (0, 0, HALO, BLOCK - HALO, HALO, BLOCK - HALO)).unflatten(1, (-1, BLOCK))  # (B, h/8 + 1, 8, w + 8, C)
    x = torch.cat([x[:, :-1], x[:, 1:, : 2 * HALO]], dim=2)  # (B, h/8, 10, w + 8, C)
    x = x.unflatten(3, (-1, BLOCK)).transpose(2, 3)  # (B, h/8, w/8 + 1, 10, 8, C)
    x = torch.cat([x[:, :, :-1], x[:, :, 1:, :, : 2 * HALO]], dim=4)  # (B, h/8, w/8, 10, 10, C)
    return x.flatten(0, 2).flatten(1, 2)

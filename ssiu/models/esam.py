"""ESAM, the efficient sparse attention module (Eq. 16-18), and the dense attention of Table III."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.models.layers import conv1x1, conv3x3, upsample_bilinear

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
            self.conv = conv3x3(channels, channels, groups=channels)
        self.qkv = conv1x1(channels, 3 * channels, bias=False)

    def forward(self, f: Tensor) -> Tensor:
        if not self.sparse:
            return self.attend(f)
        x = F.max_pool2d(f, 2)  # (B, C, H/2, W/2)
        return upsample_bilinear(self.conv(self.attend(x)), 2, align_corners=True)  # (B, C, H, W)

    def attend(self, x: Tensor) -> Tensor:
        """Eq. 17 on (B, C, h, w), h and w multiples of 8."""
        q, k, v = self.qkv(x).permute(0, 2, 3, 1).chunk(3, dim=-1)  # each (B, h, w, C)
        q = self.windows(q, BLOCK)  # (B, h/8, w/8, heads, 64, d)
        k = self.windows(F.pad(k, (0, 0, HALO, HALO, HALO, HALO)), WINDOW)  # (B, h/8, w/8, heads, 100, d)
        v = self.windows(F.pad(v, (0, 0, HALO, HALO, HALO, HALO)), WINDOW)
        position = torch.cat(
            [self.rel_h.expand(1, WINDOW, WINDOW, -1), self.rel_w.expand(1, WINDOW, WINDOW, -1)], dim=-1
        ).flatten(1, 2)  # (1, 100, d)
        y = F.scaled_dot_product_attention(q, k + position, v)  # (B, h/8, w/8, heads, 64, d)
        y = y.unflatten(4, (BLOCK, BLOCK)).permute(0, 3, 6, 1, 4, 2, 5)  # (B, heads, d, h/8, 8, w/8, 8)
        return y.reshape(x.shape)

    def windows(self, x: Tensor, side: int) -> Tensor:
        """Windows of ``side`` every 8 pixels: (B, h, w, C) to (B, rows, columns, heads, side^2, d)."""
        x = x.unfold(1, side, BLOCK).unfold(2, side, BLOCK)  # (B, rows, columns, C, side, side)
        return x.unflatten(3, (self.num_heads, -1)).flatten(5).transpose(4, 5)

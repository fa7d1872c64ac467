"""IDSA-Net's attention with a matrix that later modules share, and the sequence unit that follows it."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.models.layers import copied

WINDOW = 8  # side of an attention window, and of the grid
TOKENS = WINDOW**2  # n tokens attend to each other


def partition(x: Tensor, grid: bool) -> Tensor:
    """Pixels that attend to each other, row-major: (B, C, H, W) to (B HW/64, 64, C); H, W multiples of 8.

    They are the neighbours of an 8x8 window or, with ``grid``, 8x8 pixels at strides H/8 and W/8.
    """
    pattern = "b (i h) (j w) c -> b h w i j c" if grid else "b (h i) (w j) c -> b h w i j c"
    pixels = x.permute(0, 2, 3, 1)  # first, so that gradients come back in this layout
    return copied(rearrange(pixels, pattern, i=WINDOW, j=WINDOW)).view(-1, TOKENS, x.shape[1])


def unpartition(tokens: Tensor, height: int, width: int, grid: bool) -> Tensor:
    """The inverse of `partition`: (B HW/64, 64, C) to (B, C, H, W)."""
    pattern = "(b h w) (i j) c -> b i h j w c" if grid else "(b h w) (i j) c -> b h i w j c"
    x = rearrange(tokens, pattern, i=WINDOW, j=WINDOW, h=height // WINDOW, w=width // WINDOW)
    return copied(x).view(-1, height, width, tokens.shape[2]).permute(0, 3, 1, 2)


class SequenceUnit(nn.Module):
    """Reads tokens (n, 64, C) as a row-major sequence: out(u * SiLU(DWConv1d_5(v))) with [u, v] = in(LN(tokens))."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.inward = nn.Linear(channels, 2 * channels)
        self.conv = nn.Conv1d(channels, channels, 5, padding=2, groups=channels)
        self.outward = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        u, v = self.inward(self.norm(tokens)).chunk(2, dim=-1)
        return self.outward(u * F.silu(self._convolve(v)))

    def _convolve(self, tokens: Tensor) -> Tensor:
        if tokens.device.type != "cpu" or torch.compiler.is_compiling():
            return self.conv(tokens.transpose(1, 2)).transpose(1, 2)
        x = tokens.unsqueeze(2).permute(0, 3, 1, 2)  # (n, C, 64, 1), channels last: a row's gradient is slow in oneDNN
        x = F.conv2d(x, self.conv.weight.unsqueeze(3), self.conv.bias, padding=(2, 0), groups=x.shape[1])
        return x.squeeze(3).transpose(1, 2)


class SharedAttention(nn.Module):
    """Attention among the pixels of a window, or of the grid, followed by a sequence unit; (B, C, H, W) to the same.

    A ``source`` computes A = softmax(Q K^T / sqrt(d) + relative position), (n, heads, 64, 64), and hands it on; other
    units only project their values and use the matrix they are given. Gradients flow back through it.
    Parameters at 48 / 32 / 16 channels: 12,144 / 5,536 / 1,488; a source of 48 has 5,508 more.
    """

    offset: Tensor  # (64, 64), row of `position` for query, key

    def __init__(self, channels: int, num_heads: int, grid: bool, source: bool, sequence: bool):
        super().__init__()
        self.num_heads = num_heads
        self.grid = grid
        self.source = source
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        if source:
            self.query_key = nn.Linear(channels, 2 * channels, bias=False)
            self.position = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, num_heads))
            nn.init.trunc_normal_(self.position, std=0.02)
            y, x = torch.arange(TOKENS) // WINDOW, torch.arange(TOKENS) % WINDOW
            offset = (y[:, None] - y + WINDOW - 1) * (2 * WINDOW - 1) + x[:, None] - x + WINDOW - 1
            self.register_buffer("offset", offset, persistent=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        self.sequence = SequenceUnit(channels) if sequence else None

    def forward(self, x: Tensor, matrix: Tensor | None) -> tuple[Tensor, Tensor]:
        tokens = partition(x, self.grid)  # (n, 64, C)
        normed = self.norm(tokens)
        if self.source:
            matrix = self.attention_matrix(normed)
        assert matrix is not None, "the first unit is a source"
        value = self.value(normed).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (n, heads, 64, d)
        tokens = tokens + self.out((matrix @ value).transpose(1, 2).flatten(2))
        if self.sequence is not None:
            tokens = tokens + self.sequence(tokens)
        return unpartition(tokens, x.shape[2], x.shape[3], self.grid), matrix

    def attention_matrix(self, tokens: Tensor) -> Tensor:
        """(n, 64, C) to (n, heads, 64, 64), rows sum to one; in the products' dtype, so that autocast casts it once."""
        query, key = self.query_key(tokens).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        logits = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
        return (logits + self.position[self.offset].permute(2, 0, 1)).softmax(dim=-1).to(query.dtype)

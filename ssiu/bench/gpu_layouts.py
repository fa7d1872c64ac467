"""Trials for `ssiu benchmark gpu`: how maps lie in a GPU's memory, and layers that compute the same in another layout.

padded: channels_last, as on the CPU; but CUDA's reflection padding puts out planes, so layouts mix.
planar: (B, C, H, W) in that order throughout.
shifted: channels_last throughout; borders by concatenation, depthwise convolutions as `ShiftedProducts`.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.models.esam import BLOCK, ESAM, blocks, overlapping_windows
from ssiu.models.layers import ChannelLayerNorm, Conv3x3, attention, copied
from ssiu.models.moe_fs import MoEFS

Network = TypeVar("Network", bound=nn.Module)


def in_layout(network: Network, layout: str) -> Network:
    """``network`` itself, whose layers now compute the same in the ``layout`` of that name."""
    for module in network.modules():
        module.__class__ = LAYOUTS[layout].get(type(module), type(module))
    return network


class PlanarLayerNorm(ChannelLayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=1, correction=0, keepdim=True)
        normed = (x - mean) * torch.rsqrt(variance + self.eps)
        return (self.weight[:, None, None] * normed + self.bias[:, None, None]).to(self.weight.dtype)


class PlanarConv3x3(Conv3x3):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous())


class PlanarESAM(ESAM):
    def attend(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # a product takes and gives what its gradient needs in either layout
        qkv = (self.qkv.weight.flatten(1) @ x.flatten(2)).transpose(1, 2).unflatten(1, (height, width))
        q, kv = qkv.split([channels, 2 * channels], dim=-1)
        q = blocks(q)
        k, v = overlapping_windows(kv).chunk(2, dim=-1)
        k = k + self.position().to(k.dtype)
        q, k, v = (t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = attention(q, k, v).transpose(1, 2)
        y = y.reshape(batch, height // BLOCK, width // BLOCK, BLOCK, BLOCK, channels)
        return copied(y.permute(0, 5, 1, 3, 2, 4)).view(batch, channels, height, width)


class PlanarMoEFS(MoEFS):
    def forward(self, experts: Sequence[Tensor]) -> Tensor:
        scores = [gate(a) for gate, a in zip(self.gates, experts, strict=True)]
        w1, w2, w3 = torch.stack(scores).softmax(dim=0)
        a_w = w1 * experts[0] + w2 * experts[1] + w3 * experts[2]
        return self.fuse(a_w, plus=a_w)


class ShiftedConv3x3(Conv3x3):
    def forward(self, x: Tensor) -> Tensor:
        x = ReflectedBorder.apply(x)
        if self.groups > 1:
            return ShiftedProducts.apply(x, self.weight, self.bias)
        return nn.Conv2d.forward(self, x)


class ShiftedPixelShuffle(nn.PixelShuffle):
    def forward(self, x: Tensor) -> Tensor:
        step = self.upscale_factor  # torch's own puts out planes on a GPU
        x = x.permute(0, 2, 3, 1).unflatten(3, (-1, step, step))  # (B, H, W, C, s, s)
        return x.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


LAYOUTS: dict[str, dict[type[nn.Module], type[nn.Module]]] = {
    "padded": {},
    "planar": {ChannelLayerNorm: PlanarLayerNorm, Conv3x3: PlanarConv3x3, ESAM: PlanarESAM, MoEFS: PlanarMoEFS},
    "shifted": {Conv3x3: ShiftedConv3x3, nn.PixelShuffle: ShiftedPixelShuffle},
}


class ReflectedBorder(torch.autograd.Function):
    """One reflected pixel on every side, (B, C, H, W) to (B, C, H + 2, W + 2), in their layout; so is the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
        return torch.cat([x[..., 1:2], x, x[..., -2:-1]], dim=3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows = grad[:, :, 1:-1].clone()
        rows[:, :, 1] += grad[:, :, 0]
        rows[:, :, -2] += grad[:, :, -1]
        inner = rows[..., 1:-1].clone()
        inner[..., 1] += rows[..., 0]
        inner[..., -2] += rows[..., -1]
        return inner


class ShiftedProducts(torch.autograd.Function):
    """A depthwise 3x3 convolution of (B, C, H + 2, W + 2), weight (C, 1, 3, 3), to (B, C, H, W): nine shifted products.

    Elementwise, so that a compiler makes one pass of it, in any layout.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return bias.to(x.dtype)[:, None, None] + correlate(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x = correlate(F.pad(grad, (2, 2, 2, 2)), weight.to(grad.dtype).flip(2, 3))
        taps = [(grad * part).sum((0, 2, 3), dtype=weight.dtype) for part in nine_shifts(x)]
        return grad_x, torch.stack(taps, dim=1).view_as(weight), grad.sum((0, 2, 3), dtype=weight.dtype)


def nine_shifts(x: Tensor) -> list[Tensor]:
    """What the taps of a 3x3 kernel see: nine views (B, C, H, W) of (B, C, H + 2, W + 2), row by row."""
    height, width = x.shape[2] - 2, x.shape[3] - 2
    return [x[:, :, top : top + height, left : left + width] for top in range(3) for left in range(3)]


def correlate(x: Tensor, weight: Tensor) -> Tensor:
    """The sum of `nine_shifts` of ``x`` times the taps of ``weight`` (C, 1, 3, 3)."""
    taps = weight.flatten(1).unbind(1)  # (C,) each
    return reduce(torch.add, (part * tap[:, None, None] for part, tap in zip(nine_shifts(x), taps, strict=True)))

"""Depthwise convolutions in the forms oneDNN is fast in on a CPU; elsewhere they are torch's own.

Measured on 2 x 64 x 64 x 64 in bfloat16, one core: its gradient of a 5x5 kernel takes 15 ms, that of three columns and
two 0.7 ms; a 7x7 kernel dilated by 3 takes 10, 10 and 15 ms (output, gradients of the input and of the kernel), the
nine undilated ones it is the same as 0.6, 0.9 and 1.3 ms.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.models.layers import round_up

COLUMNS = 3  # of a kernel, for whose gradient oneDNN has a fast form; it has none for more


class DepthwiseConv(nn.Conv2d):
    """Each channel by itself, a kernel of ``size`` x ``size``, odd, zero borders; (B, C, H, W) to the same."""

    bias: Tensor

    def __init__(self, channels: int, size: int, dilation: int = 1):
        super().__init__(channels, channels, size, padding=dilation * (size // 2), dilation=dilation, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        step = self.dilation[0]
        if step == 1:
            return depthwise(x, self.weight, self.bias)
        height, width = x.shape[-2:]
        x = depthwise(to_phases(x, step), self.weight, self.bias)
        return from_phases(x, step, height, width)


def to_phases(x: Tensor, step: int) -> Tensor:
    """Every ``step``-th pixel from each of step^2 starts: (B, C, H, W) to (step^2 B, C, H/step, W/step), zeros added.

    What a dilated kernel sees of an image, an undilated one sees of each of these.
    """
    height, width = (round_up(size, step) for size in x.shape[-2:])
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, width - x.shape[3], 0, height - x.shape[2]))
    x = x.unflatten(2, (-1, step)).unflatten(1, (-1, step)).permute(2, 4, 0, 1, 3, 5)  # (step, step, B, h, w, C)
    return x.flatten(0, 2).permute(0, 3, 1, 2)


def from_phases(x: Tensor, step: int, height: int, width: int) -> Tensor:
    """The inverse of `to_phases`, (step^2 B, C, H/step, W/step) to (B, C, H, W)."""
    x = x.permute(0, 2, 3, 1).unflatten(0, (step, step, -1)).permute(2, 3, 0, 4, 1, 5)  # (B, h, step, w, step, C)
    return x.flatten(3, 4).flatten(1, 2)[:, :height, :width].permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution of (B, C, H, W) with a kernel (C, 1, h, w) of odd sides, zero borders."""
    if torch.is_autocast_enabled(x.device.type):
        x, weight, bias = (t.to(torch.get_autocast_dtype(x.device.type)) for t in (x, weight, bias))
    x = x.contiguous(memory_format=torch.channels_last)
    return _Depthwise.apply(x, weight, bias) if torch.is_grad_enabled() else _convolve(x, weight, bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    padding = [size // 2 for size in weight.shape[2:]]
    return torch.conv2d(x, weight, bias, padding=padding, groups=weight.shape[0])


class _Depthwise(torch.autograd.Function):
    """`depthwise`, whose gradient of the kernel is that of a few columns at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        with torch.autocast(x.device.type, enabled=False):
            return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            padding = [size // 2 for size in weight.shape[2:]]
            grad_x = _gradients(grad, x, weight, padding, (True, False, False))[0]
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            (_, _, height, width), last = weight.shape, x.shape[3]
            x = F.pad(x, (width // 2, width // 2))
            parts = []
            for first in range(0, width, COLUMNS):
                columns = weight[..., first : first + COLUMNS]
                seen = x[..., first : first + last + columns.shape[3] - 1]
                seen = seen.contiguous(memory_format=torch.channels_last)
                found = _gradients(grad, seen, columns, [height // 2, 0], (False, True, first == 0))
                parts.append(found[1])
                grad_bias = found[2] if first == 0 else grad_bias
            grad_weight = torch.cat(parts, dim=3)
        return grad_x, grad_weight, grad_bias


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, padding: list[int], mask: tuple[bool, ...]) -> tuple:
    """Of the input, the kernel and the bias, those of ``mask``."""
    channels = weight.shape[0]
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [channels], [1, 1], padding, [1, 1], False, [0, 0], channels, mask
    )

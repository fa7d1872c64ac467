"""Convolutions for inference on the CPU: weights in oneDNN's own layout, and what follows done in the same pass.

These are the operators ``torch.compile`` puts in for a frozen network; here they serve any image size without a
compiler.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ssiu.models.esam import ESAM
from ssiu.models.layers import Conv1x1, Conv3x3, reflect
from ssiu.models.ssiu import SSIU

ONEDNN = torch.ops.mkldnn
BYTES_PER_LR_PIXEL = 11_000  # of SSIU with 64 channels in float32 (docs/experiments/performance.md)
STRIP_PIXELS = 4096  # of the maps that come in; measured, see docs/experiments/performance.md


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch on this processor has the operators for ``dtype``."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and ONEDNN._is_mkldnn_bf16_supported())


def pack(network: SSIU, dtype: torch.dtype) -> None:
    """Lets every convolution of ``network`` compute in ``dtype``: depthwise and 1x1 ones packed, with a GELU after.

    What does not change any more is computed once, and the reconstruction `in_strips`.
    """
    fix_positions(network)
    network.reconstruct = in_strips(network.reconstruct, network.scale)  # type: ignore[method-assign]
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (name, child), (following_name, following) in pairwise([*children, ("", None)]):
            if isinstance(child, Conv3x3) and child.out_channels == 3 and dtype == torch.float32:
                setattr(parent, name, PlanarConv3x3(child))
            elif isinstance(child, Conv3x3) and child.groups > 1:
                setattr(parent, name, PackedDepthwise(child, dtype))
            elif isinstance(child, Conv3x3):
                child.to(dtype)
            elif isinstance(child, Conv1x1):
                gelu = isinstance(parent, nn.Sequential) and isinstance(following, nn.GELU)
                setattr(parent, name, PackedConv1x1(child, dtype, gelu))
                if gelu:
                    setattr(parent, following_name, nn.Identity())


def fix_positions(network: nn.Module) -> None:
    """Computes what `ESAM.position` returns once and for all: of weights, in their precision, that change no more."""
    for module in network.modules():
        if isinstance(module, ESAM):
            module.position = partial(torch.Tensor.detach, module.position())  # type: ignore[method-assign]


class PackedConv1x1(nn.Module):
    """A `Conv1x1` that computes in ``dtype``, without gradient; ``gelu`` is added to every call."""

    def __init__(self, conv: Conv1x1, dtype: torch.dtype, gelu: bool):
        super().__init__()
        self.dtype = dtype
        self.gelu = gelu
        self.weight = ONEDNN._reorder_linear_weight(conv.weight.detach().flatten(1).to(dtype), None)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)

    def forward(self, x: Tensor, gelu: bool = False, times: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        x = x.to(self.dtype).permute(0, 2, 3, 1)  # (B, H, W, C_in)
        if times is not None:
            x = self._with(x, times, "mul")
        elif plus is not None:
            x = self._with(x, plus, "add")
        else:
            name, algorithm = ("gelu", "none") if gelu or self.gelu else ("none", "")
            x = ONEDNN._linear_pointwise(x, self.weight, self.bias, name, [], algorithm)
        return x.permute(0, 3, 1, 2)  # (B, C_out, H, W)

    def _with(self, x: Tensor, other: Tensor, operation: str) -> Tensor:
        other = other.to(self.dtype).permute(0, 2, 3, 1)
        return ONEDNN._linear_pointwise.binary(x, other, self.weight, self.bias, operation)


class PackedDepthwise(nn.Module):
    """A depthwise `Conv3x3` that computes in ``dtype``, without gradient: a few calls less for each of them."""

    def __init__(self, conv: Conv3x3, dtype: torch.dtype):
        super().__init__()
        self.groups = conv.groups
        weight = conv.weight.detach().to(dtype).to_mkldnn()
        self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, [0, 0], [1, 1], [1, 1], conv.groups)
        self.bias = conv.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return ONEDNN._convolution_pointwise(
            reflect(x), self.weight, self.bias, (0, 0), (1, 1), (1, 1), self.groups, "none", (), ""
        )


class PlanarConv3x3(nn.Module):
    """A `Conv3x3` to few channels: nine 1x1 convolutions in one product, whose maps are shifted and added.

    oneDNN computes output channels by the sixteen and wastes most of that on RGB; bfloat16 is fast enough all the same.
    """

    def __init__(self, conv: Conv3x3):
        super().__init__()
        self.channels = conv.out_channels
        self.weight = conv.weight.detach().permute(2, 3, 0, 1).reshape(9 * conv.out_channels, -1).contiguous()
        self.bias = conv.bias.detach()[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, HW, C_in)
        x = torch.matmul(self.weight, x.transpose(1, 2)).unflatten(2, (height, width))  # (B, 9 C_out, H, W)
        x = reflect(x).unflatten(1, (3, 3, self.channels))  # (B, 3, 3, C_out, H + 2, W + 2)
        return self.bias + sum(x[:, i, j, :, i : i + height, j : j + width] for i in range(3) for j in range(3))


def in_strips(reconstruct: Callable[..., Tensor], scale: int) -> Callable[..., Tensor]:
    """The same ``reconstruct``, maps (B, C, H, W) to (B, 3, sH, sW), done in strips of rows.

    The maps inside are s^2 times as large as those that come in; a strip of them stays in the cache. The output is the
    same because all but the last convolution, 3x3, see one pixel at a time.
    """

    def strips(*maps: Tensor) -> Tensor:
        height, width = maps[0].shape[-2:]
        rows = max(4, STRIP_PIXELS // width)
        outputs = []
        for top in range(0, height, rows):
            above = min(top, 1)  # a row beyond the strip on either side, for the 3x3 convolution
            x = reconstruct(*(each[:, :, top - above : top + rows + 1] for each in maps))
            outputs.append(x[:, :, scale * above : scale * (above + rows)])
        return torch.cat(outputs, dim=2)

    return strips

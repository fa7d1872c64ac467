"""1x1 convolutions for inference on the CPU: weights in oneDNN's own layout, and what follows done in the same pass.

These are the operators ``torch.compile`` puts in for a frozen network; here they serve any picture size without a
compiler.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ssiu.models.layers import Conv1x1, Conv3x3

ONEDNN = torch.ops.mkldnn


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch on this processor has the operators for ``dtype``."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and ONEDNN._is_mkldnn_bf16_supported())


def pack(network: nn.Module, dtype: torch.dtype) -> None:
    """Lets every convolution of ``network`` compute in ``dtype``: 1x1 ones, with a GELU that follows, packed."""
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (name, child), (following_name, following) in pairwise([*children, ("", None)]):
            if isinstance(child, Conv3x3):
                child.to(dtype)
            elif isinstance(child, Conv1x1):
                gelu = isinstance(parent, nn.Sequential) and isinstance(following, nn.GELU)
                setattr(parent, name, PackedConv1x1(child, dtype, gelu))
                if gelu:
                    setattr(parent, following_name, nn.Identity())


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
        if times is not None or plus is not None:
            other, operation = (times, "mul") if plus is None else (plus, "add")
            other = other.to(self.dtype).permute(0, 2, 3, 1)
            x = ONEDNN._linear_pointwise.binary(x, other, self.weight, self.bias, operation)
        else:
            activation = ("gelu", [], "none") if gelu or self.gelu else ("none", [], "")
            x = ONEDNN._linear_pointwise(x, self.weight, self.bias, *activation)
        return x.permute(0, 3, 1, 2)  # (B, C_out, H, W)

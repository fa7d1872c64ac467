"""MoE-FS, feature selection by a mixture of experts (Fig. 4, Eq. 19-20)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssiu.models.layers import Conv1x1, is_planar


class MoEFS(nn.Module):
    """Weighs the outputs of three groups of stages per pixel and channel: three (B, C, H, W) to one.

    Eq. 19: w_1, w_2, w_3 = softmax over i of C_1x1,i(a_i); Eq. 20: a_w = sum_i w_i a_i; out = a_w + C_1x1(a_w).
    16,640 parameters at C = 64.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gates = nn.ModuleList(Conv1x1(channels, channels) for _ in range(3))
        self.fuse = Conv1x1(channels, channels)

    def forward(self, experts: Sequence[Tensor]) -> Tensor:
        scores = [gate(a) for gate, a in zip(self.gates, experts, strict=True)]
        if is_planar(scores[0]):
            weights = torch.stack(scores).softmax(dim=0)  # (3, B, C, H, W)
        else:
            weights = torch.stack([s.permute(0, 2, 3, 1) for s in scores]).softmax(dim=0).permute(0, 1, 4, 2, 3)
        a_w = sum(w * a for w, a in zip(weights, experts, strict=True))
        return self.fuse(a_w, plus=a_w)

"""MoE-FS, feature selection by a mixture of experts (Fig. 4, Eq. 19-20)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssiu.models.layers import Conv1x1


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
        scores = [gate(a).permute(0, 2, 3, 1) for gate, a in zip(self.gates, experts, strict=True)]
        w1, w2, w3 = torch.stack(scores).softmax(dim=0).permute(0, 1, 4, 2, 3)  # (B, C, H, W) each
        a1, a2, a3 = experts
        a_w = w1 * a1 + w2 * a2 + w3 * a3
        return self.fuse(a_w, plus=a_w)

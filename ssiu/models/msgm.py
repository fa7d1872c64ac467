"""MSGM, the mixed-scale gating module (Fig. 3, Eq. 15)."""

from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.models.layers import conv1x1, conv3x3


class MSGM(nn.Module):
    """Gates pixels seen alone against pixels seen with their neighbours, (B, C, H, W) to the same.

    Eq. 15: f1 = C_1x1(f); f2 = C_1x1(DW_3x3(C_1x1(f))); out = C_1x1(GELU(f1) * f2). 17,280 parameters at C = 64.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gate = conv1x1(channels, channels)
        self.value = nn.Sequential(
            conv1x1(channels, channels),
            conv3x3(channels, channels, groups=channels),
            conv1x1(channels, channels),
        )
        self.out = conv1x1(channels, channels)

    def forward(self, f: Tensor) -> Tensor:
        return self.out(F.gelu(self.gate(f)) * self.value(f))

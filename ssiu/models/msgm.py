"""MSGM, the mixed-scale gating module (Fig. 3, Eq. 15)."""

from torch import Tensor, nn

from ssiu.models.layers import Conv1x1, Conv3x3


class MSGM(nn.Module):
    """Gates pixels seen alone against pixels seen with their neighbours, (B, C, H, W) to the same.

    Eq. 15: f1 = C_1x1(f); f2 = C_1x1(DW_3x3(C_1x1(f))); out = C_1x1(GELU(f1) * f2). 17,280 parameters at C = 64.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gate = Conv1x1(channels, channels)
        self.value = nn.Sequential(
            Conv1x1(channels, channels),
            Conv3x3(channels, channels, depthwise=True),
            Conv1x1(channels, channels),
        )
        self.out = Conv1x1(channels, channels)

    def forward(self, f: Tensor, plus: Tensor | None = None) -> Tensor:
        """MSGM(f), or MSGM(f) + ``plus``."""
        project, spread, mix = self.value
        f1 = self.gate(f, gelu=True)
        return self.out(mix(spread(project(f)), times=f1), plus=plus)

"""A stand-in for a network that shows what it was given."""

import torch
from torch.nn import functional as F


class Doubling(torch.nn.Module):
    """Bilinear x2 with an attribute a network has, and a record of what it was given."""

    scale = 2
    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        self.seen.append(lr)
        return F.interpolate(lr, scale_factor=2, mode="bilinear")

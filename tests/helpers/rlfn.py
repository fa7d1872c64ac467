"""RLFN as it won NTIRE 2022 (Kong et al., arXiv 2205.07514): a network that spandrel does not know, in its own code."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """ESA: where to look, from a small map."""

    def __init__(self, channels: int, small: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, small, 1)
        self.conv_f = nn.Conv2d(small, small, 1)
        self.conv2 = nn.Conv2d(small, small, 3, stride=2)
        self.conv3 = nn.Conv2d(small, small, 3, padding=1)
        self.conv4 = nn.Conv2d(small, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(x)
        seen = self.conv3(F.max_pool2d(self.conv2(narrow), 7, 3))
        seen = F.interpolate(seen, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(seen + self.conv_f(narrow)))


class Block(nn.Module):
    def __init__(self, channels: int, middle: int):
        super().__init__()
        widths = (channels, middle, middle, channels)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.mix = nn.Conv2d(channels, channels, 1)
        self.esa = Attention(channels, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = F.leaky_relu(conv(y), 0.05)
        return self.esa(self.mix(x + y))


class RLFN(nn.Module):
    """Its constructor takes what its authors liked, in their words."""

    def __init__(
        self, num_in_ch: int = 3, feature_channels: int = 46, mid: int = 48, blocks: int = 4, upscale: int = 4
    ):
        super().__init__()
        self.conv_1 = nn.Conv2d(num_in_ch, feature_channels, 3, padding=1)
        self.body = nn.Sequential(*(Block(feature_channels, mid) for _ in range(blocks)))
        self.conv_2 = nn.Conv2d(feature_channels, feature_channels, 3, padding=1)
        self.up = nn.Sequential(
            nn.Conv2d(feature_channels, num_in_ch * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_1(x)
        return self.up(self.conv_2(self.body(x)) + x)

"""What the models share: channel LayerNorm, padding to whole windows, the upsampling tail."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, (B, C, H, W) to the same; biased variance, eps 1e-6, affine."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # one kernel, a view in channels_last


def conv1x1(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    """C_1x1 of the paper: mixes channels, leaves (H, W) alone."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=bias)


def conv3x3(in_channels: int, out_channels: int, groups: int = 1) -> nn.Conv2d:
    """3x3 convolution with reflected borders; ``groups=in_channels`` makes it depthwise."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect", groups=groups)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pads (B, C, H, W) at the right and bottom until both sides are multiples of ``multiple``.

    The border is reflected as far as the picture reaches and repeated from there on, so any H, W >= 1 will do.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        position = torch.arange((size + multiple - 1) // multiple * multiple, device=x.device)
        reflected = 2 * (size - 1) - position
        x = x.index_select(dim, torch.where(position < size, position, reflected).clamp(min=0))
    return x


class UpsamplingTail(nn.Sequential):
    """M_RC of Eq. 9: (B, C, H, W) features to (B, 3, scale H, scale W).

    1x1 convolution to s^2 C, PixelShuffle(s), GELU, then a 3x3 convolution to RGB; x4 takes the first three twice at
    s = 2. GELU comes before the shuffle here: it acts on single values, so the result is the same.
    """

    def __init__(self, channels: int, scale: int):
        layers: list[nn.Module] = []
        for step in (2, 2) if scale == 4 else (scale,):
            layers += [conv1x1(channels, step**2 * channels), nn.GELU(), nn.PixelShuffle(step)]
        super().__init__(*layers, conv3x3(channels, 3))


def upsample_bilinear(x: Tensor, scale: int, align_corners: bool) -> Tensor:
    """Bilinear (B, C, H, W) to (B, C, scale H, scale W)."""
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=align_corners)

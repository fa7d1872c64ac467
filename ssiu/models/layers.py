"""What the networks are made of: channel LayerNorm, convolutions, padding, upsampling. Maps are in channels_last."""

import contextlib
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = TypeVar("Size", int, Tensor)


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, (B, C, H, W) to the same; biased variance, eps 1e-6, affine."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Conv1x1(nn.Conv2d):
    """C_1x1 of the paper: mixes the channels of each pixel, (B, C_in, H, W) to (B, C_out, H, W).

    What follows is part of the call, so that inference can do it in the same pass.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor, gelu: bool = False, times: Tensor | None = None, plus: Tensor | None = None) -> Tensor:
        """The convolution, then GELU, a factor or an addend of the output's shape."""
        x = super().forward(x)
        if gelu:
            x = F.gelu(x)
        if times is not None:
            x = x * times
        return x if plus is None else x + plus


class Conv3x3(nn.Conv2d):
    """3x3 convolution with reflected borders, (B, C_in, H, W) to (B, C_out, H, W); H, W >= 2."""

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int, depthwise: bool = False):
        super().__init__(in_channels, out_channels, 3, groups=in_channels if depthwise else 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(reflect(x))


def reflect(x: Tensor) -> Tensor:
    """One reflected pixel on every side, (B, C, H, W) to (B, C, H + 2, W + 2)."""
    if torch.are_deterministic_algorithms_enabled():  # CUDA has no deterministic gradient for reflection padding
        x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
        return torch.cat([x[..., 1:2], x, x[..., -2:-1]], dim=3)
    with without_autocast(x):  # it would pad in float32, though pixels are only copied
        return F.pad(x, (1, 1, 1, 1), mode="reflect")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, each (..., tokens, d).

    In float32 on a CPU: bfloat16 is no faster there, and its gradient several times slower.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    dtype = torch.promote_types(q.dtype, torch.float32)
    with without_autocast(q):
        return F.scaled_dot_product_attention(q.to(dtype), k.to(dtype), v.to(dtype)).to(q.dtype)


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager:
    """Suspends autocast on the device of ``x``."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def copied(x: Tensor) -> Tensor:
    """``x`` in rows of its own: reshape's choice of a view or a copy would limit the sizes of an exported graph."""
    return x.clone(memory_format=torch.contiguous_format)


def round_up(value: Size, multiple: int) -> Size:
    """The smallest multiple of ``multiple`` that is at least ``value``; for tensors' sizes too."""
    return (value + multiple - 1) // multiple * multiple  # of no negative number: ONNX divides those towards zero


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """`pad_to` the next multiples of ``multiple``."""
    return pad_to(x, *(round_up(side, multiple) for side in x.shape[2:]))


def pad_to(x: Tensor, height: int, width: int) -> Tensor:
    """Pads (B, C, H, W) at the right and bottom to (B, C, height, width); a copy also where there is nothing to pad.

    The border is reflected as far as the image reaches and repeated from there on, so any H, W >= 1 will do.
    """
    for dim, side in ((2, height), (3, width)):
        size = x.shape[dim]
        position = torch.arange(side, device=x.device)
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
            layers += [Conv1x1(channels, step**2 * channels), nn.GELU(), nn.PixelShuffle(step)]
        super().__init__(*layers, Conv3x3(channels, 3))

    @staticmethod
    def scale_of(state_dict: Mapping[str, Tensor], channels: int) -> int:
        """The scale of a model whose tail of ``channels`` is called ``tail``."""
        widened = state_dict["tail.0.weight"].shape[0]  # s^2 channels
        return 4 if "tail.6.weight" in state_dict else 3 if widened == 9 * channels else 2


def upsample_bilinear(x: Tensor, scale: int, align_corners: bool) -> Tensor:
    """Bilinear (B, C, H, W) to (B, C, scale H, scale W)."""
    if x.device.type == "cuda" and torch.are_deterministic_algorithms_enabled():  # its gradient there is slow: scatters
        with without_autocast(x):
            rows, columns = (interpolation_matrix(x, dim, scale, align_corners) for dim in (2, 3))
            return rows @ x @ columns.T
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=align_corners)


def interpolation_matrix(x: Tensor, dim: int, scale: int, align_corners: bool) -> Tensor:
    """What bilinear upsampling does along ``dim`` of ``x``, as a matrix (scale N, N)."""
    size = x.shape[dim]
    eye = torch.eye(size, dtype=x.dtype, device=x.device)[None, None]  # every row is the image of one pixel
    return F.interpolate(eye, size=(scale * size, size), mode="bilinear", align_corners=align_corners)[0, 0]

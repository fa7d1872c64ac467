"""What the models share: channel LayerNorm, convolutions, padding, the upsampling tail."""

import contextlib
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


_cuda_layout: Literal["padded", "planar", "shifted"] = "padded"
"""How maps lie in a GPU's memory, until `ssiu benchmark gpu` has raced these on one; a CPU has channels_last always.

padded: channels_last, as on the CPU; but CUDA's reflection padding puts out planes, so layouts mix.
planar: (B, C, H, W) in that order throughout.
shifted: channels_last throughout; borders by concatenation, depthwise convolutions as nine shifted products.
"""


def is_planar(x: Tensor) -> bool:
    """Whether the maps of ``x``'s device lie plane by plane instead of pixel by pixel."""
    return _cuda_layout == "planar" and x.device.type == "cuda"


def is_shifted(x: Tensor) -> bool:
    """Whether depthwise convolutions on the device of ``x`` are sums of shifted products."""
    return _cuda_layout == "shifted" and x.device.type == "cuda"


def in_layout(x: Tensor) -> Tensor:
    """(B, C, H, W) in the layout of its device's maps."""
    return x.contiguous(memory_format=torch.contiguous_format if is_planar(x) else torch.channels_last)


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, (B, C, H, W) to the same; biased variance, eps 1e-6, affine."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if is_planar(x):
            variance, mean = torch.var_mean(x.float(), dim=1, correction=0, keepdim=True)
            normed = (x - mean) * torch.rsqrt(variance + self.eps)
            return (self.weight[:, None, None] * normed + self.bias[:, None, None]).to(self.weight.dtype)
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # one kernel, a view in channels_last


class Conv1x1(nn.Conv2d):
    """C_1x1 of the paper: mixes the channels of each pixel, (B, C_in, H, W) to (B, C_out, H, W).

    What follows is part of the call, so that `ssiu.models.packed` can do it in the same pass.
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

    def __init__(self, in_channels: int, out_channels: int, depthwise: bool = False):
        super().__init__(in_channels, out_channels, 3, groups=in_channels if depthwise else 1)

    def forward(self, x: Tensor) -> Tensor:
        if is_shifted(x) and self.groups > 1:
            return shifted_products(reflect(x), self.weight, self.bias)
        return super().forward(reflect(x))


def shifted_products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A depthwise 3x3 convolution of (B, C, H + 2, W + 2), weight (C, 1, 3, 3), to (B, C, H, W) in the same layout."""
    height, width = x.shape[2] - 2, x.shape[3] - 2
    weight, out = weight.to(x.dtype), bias.to(x.dtype)[:, None, None]
    for i in range(3):
        for j in range(3):
            out = torch.addcmul(out, x[:, :, i : i + height, j : j + width], weight[:, :, i, j, None])
    return out


def reflect(x: Tensor) -> Tensor:
    """One reflected pixel on every side, (B, C, H, W) to (B, C, H + 2, W + 2)."""
    # CUDA has no deterministic gradient for reflection padding, and its output forgets channels_last
    if torch.are_deterministic_algorithms_enabled() or is_shifted(x):
        x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
        return torch.cat([x[..., 1:2], x, x[..., -2:-1]], dim=3)
    with without_autocast(x):  # it would pad in float32, though pixels are only copied
        return F.pad(x, (1, 1, 1, 1), mode="reflect")


def copied(x: Tensor) -> Tensor:
    """``x`` in rows of its own: reshape's choice of a view or a copy would limit the sizes of an exported graph."""
    return x.clone(memory_format=torch.contiguous_format)


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager:
    """Suspends autocast on the device of ``x``."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``; for tensors' sizes too."""
    return -(-value // multiple) * multiple


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pads (B, C, H, W) at the right and bottom until both sides are multiples of ``multiple``.

    The border is reflected as far as the image reaches and repeated from there on, so any H, W >= 1 will do.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        position = torch.arange(round_up(size, multiple), device=x.device)
        reflected = 2 * (size - 1) - position
        x = x.index_select(dim, torch.where(position < size, position, reflected).clamp(min=0))
    return x


class PixelShuffle(nn.PixelShuffle):
    """(B, s^2 C, H, W) to (B, C, sH, sW)."""

    def forward(self, x: Tensor) -> Tensor:
        if not is_shifted(x):
            return super().forward(x)
        step = self.upscale_factor  # torch's own puts out planes on a GPU
        x = x.permute(0, 2, 3, 1).unflatten(3, (-1, step, step))  # (B, H, W, C, s, s)
        return x.permute(0, 1, 4, 2, 5, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class UpsamplingTail(nn.Sequential):
    """M_RC of Eq. 9: (B, C, H, W) features to (B, 3, scale H, scale W).

    1x1 convolution to s^2 C, PixelShuffle(s), GELU, then a 3x3 convolution to RGB; x4 takes the first three twice at
    s = 2. GELU comes before the shuffle here: it acts on single values, so the result is the same.
    """

    def __init__(self, channels: int, scale: int):
        layers: list[nn.Module] = []
        for step in (2, 2) if scale == 4 else (scale,):
            layers += [Conv1x1(channels, step**2 * channels), nn.GELU(), PixelShuffle(step)]
        super().__init__(*layers, Conv3x3(channels, 3))


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


def checkpoint_activations(model: nn.Module) -> None:
    """Makes training of ``model`` need less memory and a third more time; gradients stay the same.

    Every stage, a module in a ``ModuleList`` of ``model`` itself, keeps only its inputs and computes the rest again in
    the backward pass.
    """
    for stages in model.children():
        if isinstance(stages, nn.ModuleList):
            for stage in stages:
                stage.forward = partial(checkpoint, stage.forward, use_reentrant=False, preserve_rng_state=False)

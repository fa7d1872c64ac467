"""What the models share: channel LayerNorm, convolutions, padding, the upsampling tail."""

import contextlib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_cuda_layout: Literal["padded", "planar", "shifted"] = "padded"
"""How maps lie in a GPU's memory, until `ssiu benchmark gpu` has raced these on one; a CPU has channels_last always.

padded: channels_last, as on the CPU; but CUDA's reflection padding puts out planes, so layouts mix.
planar: (B, C, H, W) in that order throughout.
shifted: channels_last throughout; borders by concatenation, depthwise convolutions as `ShiftedProducts`.
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

    What follows is part of the call, so that `ssiu.inference.packed` can do it in the same pass.
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
            return ShiftedProducts.apply(reflect(x), self.weight, self.bias)
        return super().forward(reflect(x))


def reflect(x: Tensor) -> Tensor:
    """One reflected pixel on every side, (B, C, H, W) to (B, C, H + 2, W + 2)."""
    if is_shifted(x):
        return ReflectedBorder.apply(x)
    if torch.are_deterministic_algorithms_enabled():  # CUDA has no deterministic gradient for reflection padding
        return reflect_by_slices(x)
    with without_autocast(x):  # it would pad in float32, though pixels are only copied
        return F.pad(x, (1, 1, 1, 1), mode="reflect")


def reflect_by_slices(x: Tensor) -> Tensor:
    """`reflect` by concatenation, which keeps the layout."""
    x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], dim=2)
    return torch.cat([x[..., 1:2], x, x[..., -2:-1]], dim=3)


class ReflectedBorder(torch.autograd.Function):
    """`reflect_by_slices` with a gradient in the layout of the maps, which that of slices would lose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return reflect_by_slices(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows = grad[:, :, 1:-1].clone()
        rows[:, :, 1] += grad[:, :, 0]
        rows[:, :, -2] += grad[:, :, -1]
        inner = rows[..., 1:-1].clone()
        inner[..., 1] += rows[..., 0]
        inner[..., -2] += rows[..., -1]
        return inner


class ShiftedProducts(torch.autograd.Function):
    """A depthwise 3x3 convolution of (B, C, H + 2, W + 2), weight (C, 1, 3, 3), to (B, C, H, W): nine shifted products.

    Elementwise, so that a compiler makes one pass of it, in any layout.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return bias.to(x.dtype)[:, None, None] + correlate(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x = correlate(F.pad(grad, (2, 2, 2, 2)), weight.to(grad.dtype).flip(2, 3))
        taps = [(grad * part).sum((0, 2, 3), dtype=weight.dtype) for part in nine_shifts(x)]
        return grad_x, torch.stack(taps, dim=1).view_as(weight), grad.sum((0, 2, 3), dtype=weight.dtype)


def nine_shifts(x: Tensor) -> list[Tensor]:
    """What the taps of a 3x3 kernel see: nine views (B, C, H, W) of (B, C, H + 2, W + 2), row by row."""
    height, width = x.shape[2] - 2, x.shape[3] - 2
    return [x[:, :, top : top + height, left : left + width] for top in range(3) for left in range(3)]


def correlate(x: Tensor, weight: Tensor) -> Tensor:
    """The sum of `nine_shifts` of ``x`` times the taps of ``weight`` (C, 1, 3, 3)."""
    taps = weight.flatten(1).unbind(1)  # (C,) each
    return sum(part * tap[:, None, None] for part, tap in zip(nine_shifts(x), taps, strict=True))


def copied(x: Tensor) -> Tensor:
    """``x`` in rows of its own: reshape's choice of a view or a copy would limit the sizes of an exported graph."""
    return x.clone(memory_format=torch.contiguous_format)


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager:
    """Suspends autocast on the device of ``x``."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def round_up(value: int, multiple: int) -> int:
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


def enlargement_weights(tile_offset: Tensor, height: int, width: int, multiple: int) -> tuple[Tensor, Tensor]:
    """What `enlarge_part` needs to know of a tile, for rows (2, height, 1, 1) and columns (2, width, 1).

    ``tile_offset``: (top, left) of the tile's first pixel and (H, W) of its whole image, in pixels twice as fine as the
    map of (height, width) that is enlarged; the image is padded to a ``multiple``. `upsample_bilinear` with
    align_corners gives pixel j of N two children, at ``j - j / (2N - 1)`` and at ``j + (N - 1 - j) / (2N - 1)``.
    """
    first, number = (tile_offset[:2] // 2).float(), (round_up(tile_offset[2:], multiple) // 2).float()
    weights = []
    for axis, size in enumerate((height, width)):
        j = first[axis] + torch.arange(size, device=tile_offset.device)
        weights.append(torch.stack([-j, number[axis] - 1 - j]) / (2 * number[axis] - 1))
    return weights[0][..., None, None], weights[1][..., None]


def enlarge_part(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The part (B, C, 2h, 2w) that ``x`` (B, C, h, w) becomes when the map it is a part of is enlarged as a whole.

    Beyond the part its outermost pixels are repeated.
    """
    x = x.permute(0, 2, 3, 1)  # (B, h, w, C)
    for dim, (back, forth) in ((2, columns), (1, rows)):
        size = x.shape[dim]
        steps = x.diff(dim=dim, prepend=x.narrow(dim, 0, 1), append=x.narrow(dim, size - 1, 1))  # one more than x has
        before = torch.addcmul(x, steps.narrow(dim, 0, size), back.to(x.dtype))
        after = torch.addcmul(x, steps.narrow(dim, 1, size), forth.to(x.dtype))
        x = torch.stack([before, after], dim + 1).flatten(dim, dim + 1)
    return x.permute(0, 3, 1, 2)


def interpolation_matrix(x: Tensor, dim: int, scale: int, align_corners: bool) -> Tensor:
    """What bilinear upsampling does along ``dim`` of ``x``, as a matrix (scale N, N)."""
    size = x.shape[dim]
    eye = torch.eye(size, dtype=x.dtype, device=x.device)[None, None]  # every row is the image of one pixel
    return F.interpolate(eye, size=(scale * size, size), mode="bilinear", align_corners=align_corners)[0, 0]

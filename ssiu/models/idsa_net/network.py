"""IDSA-Net, the information distillation and shared attention network: a re-implementation from its abstract.

The paper (Chinese Journal of Engineering, doi 10.13374/j.issn2095-9389.2025.10.24.003) is public only as an abstract,
which gives the ideas, the size at x4 (752 K parameters) and its PSNR there. So this is no reproduction: what the
abstract says is kept, everything else is our choice, and the paper's figures are lines to compare with.

=========================================================  ============================================================
the abstract says                                          here; what the abstract leaves open and we chose
=========================================================  ============================================================
later modules avoid recomputing the spatial attention      `SharedAttention`: block 0 makes two matrices, all later
matrix; it is shared across layers                         units reuse them. Ours: 8x8 windows and 8x8 grids
self-attention is paired with sequence modelling units     `SequenceUnit`. Ours: a gated convolution along the tokens
local feature extraction with convolutions; purification   `DistillationStage`, three of them in `ASDB`, the
while features are extracted and distilled                 attention-sharing distillation block. Ours: a quarter of
                                                           the channels is distilled by each stage
channel shuffle and the depthwise-separable large kernels  `LKCIPM`, large-kernel channel information purification.
of large-kernel attention reweight the distilled features  Ours: 5x5, then 7x7 with dilation 3; grouped convolutions
                                                           around the shuffle, without which it would do nothing
pooling along width and height separately, one-dimensional `INHAM`, instance-norm hybrid attention. Ours: kernel 7,
depthwise-separable convolutions without reduction; then   both gates multiply, the norm stays inside the spatial gate
instance norm of each channel of each sample
sub-pixel convolution layers upsample                      `tail`, SSIU's; the bilinear image is added, as there
(nothing)                                                  order of the modules, 64 channels, 7 blocks, 4 heads, GELU,
                                                           a norm before each block, `initialise`
=========================================================  ============================================================

Grid attention, strip pooling and instance norm see the whole image: a tile alone does not give what it gives there.
Tiles of 64 and 128 LR pixels gave 52 to 60 dB against the whole, up to 10 gray levels (docs/experiments/idsa_net.md).
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.errors import ConfigError
from ssiu.models.base import SRNetwork, check_choice
from ssiu.models.idsa_net.depthwise import DepthwiseConv
from ssiu.models.idsa_net.shared_attention import WINDOW, SequenceUnit, SharedAttention
from ssiu.models.layers import (
    ChannelLayerNorm,
    Conv1x1,
    UpsamplingTail,
    pad_to_multiple,
    upsample_bilinear,
)

STREAMS = 4  # distilled streams of a block, each a quarter of the channels
STAGES = STREAMS - 1  # the last stage distils two

Matrices = tuple[Tensor | None, Tensor | None]  # within windows, across the grid; None before the first source


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Deals the channels of each group out over all groups, (B, C, H, W) to the same."""
    x = x.permute(0, 2, 3, 1).unflatten(3, (groups, -1)).transpose(3, 4)  # (B, H, W, C / groups, groups)
    return x.flatten(3).permute(0, 3, 1, 2)


def local_features(channels: int, width: int) -> nn.Sequential:
    """(B, C, H, W) to the same: 1x1 to ``width`` channels, 3x3 of each by itself, 1x1 back; GELU between."""
    return nn.Sequential(
        Conv1x1(channels, width), nn.GELU(), DepthwiseConv(width, 3), nn.GELU(), Conv1x1(width, channels)
    )


class DistillationStage(nn.Module):
    """One stage of `ASDB`, (B, C, H, W) to the same: convolve, then ``kept`` channels pass and the rest attends.

    Also takes and returns the attention matrices. The last stage leaves its streams apart instead of fusing them.
    """

    def __init__(self, channels: int, kept: int, num_heads: int, source: bool, sequence: bool, last: bool):
        super().__init__()
        self.kept = kept
        self.local = local_features(channels, channels)
        self.window = SharedAttention(channels - kept, num_heads, grid=False, source=source, sequence=sequence)
        self.grid = SharedAttention(channels - kept, num_heads, grid=True, source=source, sequence=sequence)
        self.fuse = nn.Identity() if last else Conv1x1(channels, channels)

    def forward(self, x: Tensor, matrices: Matrices) -> tuple[Tensor, Matrices]:
        x = x + self.local(x)
        passed, rest = x.split([self.kept, x.shape[1] - self.kept], dim=1)  # slices have gradients in another layout
        rest, window = self.window(rest, matrices[0])
        rest, grid = self.grid(rest, matrices[1])
        return self.fuse(torch.cat([passed, rest], dim=1)), (window, grid)


class ASDB(nn.Module):
    """Attention-sharing distillation: (B, C, H, W) to four distilled streams of C/4, side by side and not yet mixed.

    Stages of C, 3C/4 and C/2 channels; the first two distil their first C/4 and hand the others to the next, the third
    gives the last two streams. The first ``sources`` stages compute their own attention matrices: 0 in a dependent
    block (61,424 parameters), 1 in a source (72,440) whose streams share them, 3 (81,160) where nothing is shared.
    """

    def __init__(self, channels: int, num_heads: int, sources: int, sequence: bool):
        super().__init__()
        self.kept = channels // STREAMS
        self.stages = nn.ModuleList(
            DistillationStage(
                channels - i * self.kept, self.kept, num_heads, i < sources, sequence, last=i == STAGES - 1
            )
            for i in range(STAGES)
        )

    def forward(self, x: Tensor, matrices: Matrices) -> tuple[Tensor, Matrices]:
        streams = []
        for stage in self.stages:
            x, matrices = stage(x, matrices)
            stream, x = x.split([self.kept, x.shape[1] - self.kept], dim=1)
            streams.append(stream)
        return torch.cat([*streams, x], dim=1), matrices


class LKCIPM(nn.Module):
    """Large-kernel channel information purification: reweights distilled streams, (B, C, H, W) to the same.

    z + grouped(y * LKA(y)) with y = shuffle(GELU(grouped(LN(z)))) and LKA = 1x1, 7x7 dilated by 3 and 5x5, which sees
    23x23 pixels. The streams are the groups: only the shuffle lets them meet in the second grouped convolution, where
    between dense ones it would merely rename weights. 11,328 parameters.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = ChannelLayerNorm(channels)
        self.inward = nn.Conv2d(channels, channels, 1, groups=STREAMS)
        self.large_kernel = nn.Sequential(
            DepthwiseConv(channels, 5),
            DepthwiseConv(channels, 7, dilation=3),
            Conv1x1(channels, channels),
        )
        self.outward = nn.Conv2d(channels, channels, 1, groups=STREAMS)

    def forward(self, z: Tensor) -> Tensor:
        y = shuffle_channels(F.gelu(self.inward(self.norm(z))), STREAMS)
        return z + self.outward(y * self.large_kernel(y))


class INHAM(nn.Module):
    """Instance-norm hybrid attention, (B, C, H, W) to the same: gates rows, columns and channels, then pixels.

    c = x * g_h * g_w, gates from means over the width and the height; out = x + c * m, where m is a gate from the
    instance-normalised c. 15,296 parameters.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.rows = self._strip_gate(channels)
        self.columns = self._strip_gate(channels)
        self.pixels = nn.Sequential(
            nn.InstanceNorm2d(channels, affine=True),
            DepthwiseConv(channels, 5),
            nn.GELU(),
            Conv1x1(channels, channels),
            nn.Sigmoid(),
        )

    @staticmethod
    def _strip_gate(channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv1d(channels, channels, 7, padding=3, groups=channels),
            nn.GELU(),
            nn.Conv1d(channels, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x.mean(dim=3)).unsqueeze(3)  # (B, C, H, 1)
        columns = self.columns(x.mean(dim=2)).unsqueeze(2)  # (B, C, 1, W)
        c = x * rows * columns
        return torch.addcmul(x, c, self.pixels(c))


class Block(nn.Module):
    """F + end(INHAM(fuse(LKCIPM(ASDB(LN(F)))))), (B, C, H, W) to the same; takes and returns the attention matrices.

    Without ``purify`` or ``attend`` that module's input is handed on.
    """

    def __init__(self, channels: int, num_heads: int, sources: int, sequence: bool, purify: bool, attend: bool):
        super().__init__()
        self.norm = ChannelLayerNorm(channels)
        self.distil = ASDB(channels, num_heads, sources, sequence)
        self.purify = LKCIPM(channels) if purify else nn.Identity()
        self.fuse = Conv1x1(channels, channels)
        self.attend = INHAM(channels) if attend else nn.Identity()
        self.end = Conv1x1(channels, channels)

    def forward(self, f: Tensor, matrices: Matrices) -> tuple[Tensor, Matrices]:
        z, matrices = self.distil(self.norm(f), matrices)
        return f + self.end(self.attend(self.fuse(self.purify(z)))), matrices


def initialise(model: "IDSANet") -> None:
    """Weights that keep a signal's size, no biases; what is added to something else starts at a tenth.

    torch's own leave a third of the variance in every layer: behind three of them biases, and means of windows, were
    many times larger than an image's details (docs/experiments/idsa_net.md).
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    added = [model.tail[-1]]
    for module in model.modules():
        if isinstance(module, Block):
            added.append(module.end)
        elif isinstance(module, SharedAttention):
            added.append(module.out)
        elif isinstance(module, SequenceUnit):
            added.append(module.outward)
    with torch.no_grad():
        for layer in added:
            layer.get_parameter("weight").mul_(0.1)


class IDSANet(SRNetwork):
    """Information distillation and shared attention network, re-implemented from its abstract (see the module's table).

    Takes LR images (B, 3, H, W) in [0, 1], any H, W >= 1, and gives SR images (B, 3, scale H, scale W), which are
    not clamped. 733,403 / 754,203 / 750,043 parameters at x2 / x3 / x4; 877,179 at x4 if nothing is shared.

    Args:
        scale: upscaling factor 2, 3 or 4.
        n_feats: feature channels C, a multiple of 4 num_heads: the matrices serve C/4, C/2 and 3C/4 channels.
        num_heads: attention heads.
        n_blocks: blocks N.
        share_group: blocks that share their attention matrices, each group's first one computes them; 0 = all blocks,
            "none" = every attention computes its own, the control without the paper's idea.
        smu: what follows an attention, "gconv" a `SequenceUnit`, "none" nothing.
        purification, hybrid_attention: "lkcipm" and "inham", or "none" for blocks without the module of that name.

    Raises:
        ConfigError: an argument is out of range.
    """

    size_multiple = WINDOW
    tail_prefixes = ("tail.",)

    def __init__(
        self,
        scale: int = 4,
        n_feats: int = 64,
        num_heads: int = 4,
        n_blocks: int = 7,
        share_group: int | Literal["none"] = 0,
        smu: Literal["gconv", "none"] = "gconv",
        purification: Literal["lkcipm", "none"] = "lkcipm",
        hybrid_attention: Literal["inham", "none"] = "inham",
    ):
        if isinstance(share_group, int) and share_group >= n_blocks:
            share_group = 0  # the same network
        super().__init__(scale, locals())
        check_choice("scale", scale, (2, 3, 4))
        if num_heads < 1 or n_feats < 1 or n_feats % (STREAMS * num_heads):
            multiple = STREAMS * num_heads
            raise ConfigError(f"n_feats: expected a multiple of {STREAMS} * num_heads = {multiple}, got {n_feats}")
        if n_blocks < 1:
            raise ConfigError(f"n_blocks: expected at least 1, got {n_blocks}")
        if share_group != "none" and (not isinstance(share_group, int) or share_group < 0):
            raise ConfigError(f"share_group: expected 0 (all blocks), a number of blocks or none, got {share_group}")
        check_choice("smu", smu, ("gconv", "none"))
        check_choice("purification", purification, ("lkcipm", "none"))
        check_choice("hybrid_attention", hybrid_attention, ("inham", "none"))
        if share_group == "none":
            sources = [STAGES] * n_blocks
        else:
            sources = [int(i % (share_group or n_blocks) == 0) for i in range(n_blocks)]
        self.head = nn.Conv2d(3, n_feats, 3, padding=1)
        parts = dict(sequence=smu != "none", purify=purification != "none", attend=hybrid_attention != "none")
        self.blocks = nn.ModuleList(Block(n_feats, num_heads, n, **parts) for n in sources)
        self.body_end = local_features(n_feats, 3 * n_feats)
        self.tail = UpsamplingTail(n_feats, scale)
        initialise(self)

    def forward(self, lr: Tensor) -> Tensor:
        height, width = lr.shape[-2:]
        y = pad_to_multiple(lr, self.size_multiple).contiguous(memory_format=torch.channels_last)
        f = f0 = self.head(y.to(self.head.weight.dtype))  # (B, C, H, W), as all maps up to the tail
        matrices: Matrices = (None, None)
        for block in self.blocks:
            f, matrices = block(f, matrices)
        x = self.tail(f0 + self.body_end(f)) + upsample_bilinear(y, self.scale, align_corners=False)  # (B, 3, sH, sW)
        return x[..., : self.scale * height, : self.scale * width]

    @classmethod
    def arguments_from(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The arguments read from names and shapes, or None where these are not IDSA-Net's weights."""
        first = "blocks.0.distil.stages.0.window."
        if not {"head.weight", "tail.0.weight", "body_end.0.weight", first + "position"} <= state_dict.keys():
            return None
        n_feats = state_dict["head.weight"].shape[0]
        blocks = {int(found[1]) for name in state_dict if (found := re.match(r"blocks\.(\d+)\.", name))}
        sources = [i for i in sorted(blocks) if f"blocks.{i}.distil.stages.0.window.position" in state_dict]
        shared = "blocks.0.distil.stages.1.window.position" not in state_dict
        return dict(
            scale=UpsamplingTail.scale_of(state_dict, n_feats),
            n_feats=n_feats,
            num_heads=state_dict[first + "position"].shape[-1],
            n_blocks=max(blocks) + 1,
            share_group="none" if not shared else sources[1] if len(sources) > 1 else 0,
            smu="gconv" if first + "sequence.conv.weight" in state_dict else "none",
            purification="lkcipm" if "blocks.0.purify.norm.weight" in state_dict else "none",
            hybrid_attention="inham" if "blocks.0.attend.rows.0.weight" in state_dict else "none",
        )

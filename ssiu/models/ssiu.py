"""SSIU, the structural similarity-inspired unfolding network (Fig. 2); read this file beside the figure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssiu.errors import ConfigError
from ssiu.models.base import SRNetwork, check_choice
from ssiu.models.esam import ESAM
from ssiu.models.layers import (
    ChannelLayerNorm,
    Conv3x3,
    UpsamplingTail,
    pad_to_multiple,
    upsample_bilinear,
)
from ssiu.models.moe_fs import MoEFS
from ssiu.models.msgm import MSGM
from ssiu.models.tile_upsampling import upsampling_weights

EXPERTS = 3  # groups of stages MoE-FS chooses from


class SSReM(nn.Module):
    """One stage of the unfolding, a_{t+1} = SS-ReM_t(a_t, f_y) (Eq. 7, 10-14); all maps are (B, C, H, W).

    ``beta_sign="plus"`` adds beta as Eq. 13 prints it, where Fig. 2 and the released weights subtract it;
    ``skip="raw"`` adds a_t itself as Eq. 12 prints it, where the released weights add LN(a_t).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        attention: Literal["sparse", "dense"],
        beta_sign: Literal["minus", "plus"],
        skip: Literal["norm", "raw"],
    ):
        super().__init__()
        self.beta_sign = beta_sign
        self.skip = skip
        self.norm = ChannelLayerNorm(channels)
        self.msgm1 = MSGM(channels)
        self.msgm2 = MSGM(channels)
        self.esam = ESAM(channels, num_heads, sparse=attention == "sparse")
        self.msgm3 = MSGM(channels)
        self.msgm4 = MSGM(channels)

    def forward(self, a: Tensor, f_y: Tensor, tile: tuple[Tensor, Tensor] | None = None) -> Tensor:
        normed = self.norm(a)
        v = self.msgm1(normed, plus=(normed if self.skip == "norm" else a) + f_y)  # Eq. 10 and 12
        beta = self.msgm2(normed)  # Eq. 11
        v = self.esam(v, tile) + v
        a = self.msgm3(v - beta if self.beta_sign == "minus" else v + beta, plus=beta)  # Eq. 13
        return self.msgm4(a, plus=a)  # Eq. 14


class SSIU(SRNetwork):
    """Structural similarity-inspired unfolding for lightweight image super-resolution.

    Takes LR images (B, 3, H, W) in [0, 1], any H, W >= 1, and gives SR images (B, 3, scale H, scale W), which are
    not clamped. 777,827 / 798,627 / 794,467 parameters at x2 / x3 / x4.

    ==========================  ===========================  ======================================
    paper                       here                         what it is
    ==========================  ===========================  ======================================
    y                           ``lr``                       LR image
    f_y = Conv3x3(y) (Eq. 6)    ``head``, ``f_y``            what every stage is reminded of
    a_t, alpha (Eq. 7)          ``a``                        sparse code after t stages, a_0 = f_y
    SS-ReM_t (Fig. 2)           ``stages[t]``                one stage of the unfolding
    z, S_t1 (Eq. 10)            ``msgm1``                    auxiliary code, straight into v
    b, beta, S_t2 (Eq. 11)      ``msgm2``, ``beta``          structural-similarity prior
    v (Eq. 12)                  ``esam``, ``v``              data step and non-local similarity
    S_t3 (Eq. 13)               ``msgm3``                    next code from v - beta
    MSGM_4 (Eq. 14)             ``msgm4``                    refinement
    f_x (Eq. 8, 19-20)          ``moe_fs``                   mix of stages N/3, 2N/3 and N
    M_RC (Eq. 9)                ``tail``                     features to the SR image
    C, N                        ``n_feats``, ``n_blocks``    64, 9
    ==========================  ===========================  ======================================

    Args:
        scale: upscaling factor 2, 3 or 4.
        n_feats: feature channels C, a multiple of 2 num_heads.
        num_heads: attention heads of every ESAM.
        n_blocks: stages N, a multiple of 3.
        attention: "sparse" is ESAM, "dense" the SAM of Table III (788,707 parameters at x4).
        moe: False takes the last stage instead of MoE-FS, Table III's first row (777,827 parameters at x4).
        beta_sign, skip: the paper's text instead of the released network, see ``SSReM``.

    Raises:
        ConfigError: an argument is out of range.
    """

    size_multiple = 16  # max-pooling by 2, then blocks of 8
    takes_tile_offset = True  # of a tile, so that tiles equal the whole image
    tail_prefixes = ("tail.",)  # what `init_trunk` leaves out

    def __init__(
        self,
        scale: int = 4,
        n_feats: int = 64,
        num_heads: int = 4,
        n_blocks: int = 9,
        attention: Literal["sparse", "dense"] = "sparse",
        moe: bool = True,
        beta_sign: Literal["minus", "plus"] = "minus",
        skip: Literal["norm", "raw"] = "norm",
    ):
        super().__init__(scale, locals())
        check_choice("scale", scale, (2, 3, 4))
        check_choice("attention", attention, ("sparse", "dense"))
        check_choice("beta_sign", beta_sign, ("minus", "plus"))
        check_choice("skip", skip, ("norm", "raw"))
        if num_heads < 1 or n_feats < 1 or n_feats % (2 * num_heads):
            raise ConfigError(f"n_feats: expected a multiple of 2 * num_heads = {2 * num_heads}, got {n_feats}")
        if n_blocks < 1 or n_blocks % EXPERTS:
            raise ConfigError(
                f"n_blocks: expected a multiple of {EXPERTS}, one group of stages an expert, got {n_blocks}"
            )
        self.head = Conv3x3(3, n_feats)
        self.stages = nn.ModuleList(SSReM(n_feats, num_heads, attention, beta_sign, skip) for _ in range(n_blocks))
        self.moe_fs = MoEFS(n_feats) if moe else None
        self.tail = UpsamplingTail(n_feats, scale)

    def forward(self, lr: Tensor, tile_offset: Tensor | None = None) -> Tensor:
        """``tile_offset`` (top, left, height, width): ``lr`` is a tile that starts there in an image of that size.

        In LR pixels, on the device of ``lr``; the tile starts at multiples of `size_multiple`, ends there or with the
        image. Away from its edges it then becomes what it is in the image: ESAM's upsampling depends on the size.
        """
        height, width = lr.shape[-2:]
        y = pad_to_multiple(lr, self.size_multiple).contiguous(memory_format=torch.channels_last)
        a = f_y = self.head(y.to(self.head.weight.dtype))  # (B, C, H, W), as all maps up to the tail
        tile = None
        if tile_offset is not None:
            tile = upsampling_weights(tile_offset, y.shape[2] // 2, y.shape[3] // 2, self.size_multiple)
        outputs = []
        for stage in self.stages:
            a = stage(a, f_y, tile)
            outputs.append(a)
        group = len(outputs) // EXPERTS
        x = self.reconstruct(f_y, *outputs[group - 1 :: group])  # from the last of each group, (B, 3, sH, sW)
        x = x + upsample_bilinear(y, self.scale, align_corners=False)
        return x[..., : self.scale * height, : self.scale * width]

    def reconstruct(self, f_y: Tensor, *experts: Tensor) -> Tensor:
        """M_RC(f_x + f_y) of Eq. 8 and 9, (B, C, H, W) each to (B, 3, sH, sW)."""
        f_x = self.moe_fs(experts) if self.moe_fs else experts[-1]
        return self.tail(f_x + f_y)

    @classmethod
    def arguments_from(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The arguments read from names and shapes, or None where these are not SSIU's weights.

        ``beta_sign`` and ``skip`` leave no trace in the weights and are not among them.
        """
        stages = {int(found[1]) for name in state_dict if (found := re.match(r"stages\.(\d+)\.esam\.", name))}
        if not stages or not {"head.weight", "tail.0.weight", "stages.0.esam.rel_h"} <= state_dict.keys():
            return None
        n_feats = state_dict["head.weight"].shape[0]
        return dict(
            scale=UpsamplingTail.scale_of(state_dict, n_feats),
            n_feats=n_feats,
            num_heads=n_feats // (2 * state_dict["stages.0.esam.rel_h"].shape[-1]),
            n_blocks=max(stages) + 1,
            attention="sparse" if "stages.0.esam.conv.weight" in state_dict else "dense",
            moe="moe_fs.fuse.weight" in state_dict,
        )


# (the authors' name, ours), a part of a parameter's dotted name each; read down to translate from theirs, up to theirs
AUTHORS_NAMES = (
    (".norm.body.", ".norm."),
    (".body.", ".stages."),
    (".s1.", ".msgm1."),
    (".s2.", ".msgm2."),
    (".s3.", ".esam."),
    (".s4.", ".msgm3."),
    (".ffn.", ".msgm4."),
    (".project_in1.", ".gate."),
    (".project_in2.", ".value."),
    (".project_out.", ".out."),
    (".qkv_conv.", ".qkv."),
    (".LocalProp.0.", ".conv."),
    (".moe.fc_a.", ".moe_fs.gates.0."),
    (".moe.fc_b.", ".moe_fs.gates.1."),
    (".moe.fc_c.", ".moe_fs.gates.2."),
    (".moe.fuse.", ".moe_fs.fuse."),
)


def from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the authors' ``model_state_dict``, with or without DataParallel's ``module.``; same tensors."""
    return {_rename(name.removeprefix("module."), AUTHORS_NAMES): tensor for name, tensor in state_dict.items()}


def to_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names, ``module.`` included as their loader wants it, for our weights; same tensors."""
    table = [(ours, theirs) for theirs, ours in reversed(AUTHORS_NAMES)]
    return {"module." + _rename(name, table): tensor for name, tensor in state_dict.items()}


def _rename(name: str, table: Iterable[tuple[str, str]]) -> str:
    name = f".{name}"
    for old, new in table:
        name = name.replace(old, new)
    return name[1:]

"""Other methods' networks with random weights, small, as spandrel has them; and spandrel itself."""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision_standin import require_spandrel

spandrel = require_spandrel()


def spandrel_network(name: str, module: str = "", kind: str = "") -> Any:
    """The class of an architecture."""
    return getattr(importlib.import_module(f"spandrel.architectures.{name}{module}"), kind or name)


TRANSFORMER = {"embed_dim": 24, "mlp_ratio": 1, "upsampler": "pixelshuffledirect", "window_size": 8}
TOKENS = {"category_size": 128, "num_tokens": 16, "reducted_dim": 8, "convffn_kernel_size": 5}
EXTERNAL = {
    "ATD": lambda s: spandrel_network("ATD")(upscale=s, depths=(2,), num_heads=(2,), **TRANSFORMER, **TOKENS),
    "CRAFT": lambda s: spandrel_network("CRAFT")(embed_dim=24, depths=[1], num_heads=[2], upscale=s),
    "DITN": lambda s: spandrel_network("DITN")(dim=16, ITL_blocks=1, SAL_blocks=1, upscale=s),
    "OmniSR": lambda s: spandrel_network("OmniSR")(num_feat=16, res_num=1, up_scale=s),
    "RCAN": lambda s: spandrel_network("RCAN")(scale=s, n_resgroups=1, n_resblocks=1, n_feats=16, reduction=4),
    "SAFMN": lambda s: spandrel_network("SAFMN")(dim=16, n_blocks=1, upscaling_factor=s),
    "SwinIR": lambda s: spandrel_network("SwinIR")(
        upscale=s, img_size=64, img_range=1.0, depths=[2], num_heads=[2], **TRANSFORMER
    ),
}
"""Architecture -> its network at a scale."""


def compact(scale: int, channels: int = 3) -> nn.Module:
    """Three convolutions and a pixel shuffle: what a tile sees decides all of it."""
    kind = spandrel_network("Compact", ".__arch.SRVGG", "SRVGGNetCompact")
    return kind(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=1, upscale=scale)


def written(path: Path, network: nn.Module, wrapper: str = "params_ema") -> Path:
    """The checkpoint of ``network`` as BasicSR writes it."""
    torch.save({wrapper: network.state_dict()}, path)
    return path


def external_file(folder: Path, name: str, scale: int) -> Path:
    """A checkpoint of an architecture in `EXTERNAL`, the same each time."""
    torch.manual_seed(0)
    return written(folder / f"{name}_x{scale}.pth", EXTERNAL[name](scale))

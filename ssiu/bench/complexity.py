"""Parameters and multiply-accumulates (MACs) of a network, per kind of module.

Counted are convolutions, matrix products and attention, on the LR image as the network pads it; additions,
normalisations, activations and interpolation are not, as is usual. One MAC is two FLOPs; papers print MACs as "FLOPs".
"""

import argparse
from collections import Counter

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssiu.bench.options import at_least
from ssiu.config import load_config
from ssiu.models import build_model, layers
from ssiu.report.tables import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="configs/SSUFSR_light_x4.yml", help="default: the paper's x4")
    parser.add_argument(
        "--size", type=at_least(16), nargs=2, default=(1280, 720), metavar=("W", "H"), help="SR; default 1280 720"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as scale=2 attention=dense")


def run(arguments: argparse.Namespace) -> list[Table]:
    """The table for the network of a config."""
    config = load_config(arguments.config, arguments.overrides)
    width, height = (side // config.scale for side in arguments.size)
    return [complexity_table(build_model(config), height, width)]


def count_macs(model: nn.Module, height: int, width: int) -> dict[str, int]:
    """MACs of every module by its name ("" is the whole) for an LR image (1, 3, height, width)."""
    plain_attention = sdpa_kernel(SDPBackend.MATH)  # as matrix products, which the counter knows on every device
    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)  # no memory, no time
    with FlopCounterMode(display=False) as counter, plain_attention, shapes_only, torch.no_grad():
        model(torch.zeros(1, 3, height, width))
    root = type(model).__name__
    counts = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}
    return {name.removeprefix(root).removeprefix("."): macs for name, macs in counts.items() if name.startswith(root)}


def complexity_table(model: nn.Module, height: int, width: int) -> Table:
    """A row for each kind of module; those that hold others include them."""
    macs = count_macs(model, height, width)
    number, parameters, products = Counter(), Counter(), Counter()
    for name, module in model.named_modules():
        kind = type(module)
        ours = kind.__module__.startswith("ssiu.models.") and kind.__module__ != layers.__name__
        if name and (ours or "." not in name):
            label = kind.__name__ if ours else name
            number[label] += 1
            parameters[label] += sum(p.numel() for p in module.parameters())
            products[label] += _macs_of(name, module, macs)
    rows = [[k, str(number[k]), f"{parameters[k]:,}", f"{products[k] / 1e9:.2f}"] for k in number]
    total = sum(p.numel() for p in model.parameters())
    rows.append(["whole network", "1", f"{total:,}", f"{macs[''] / 1e9:.2f}"])
    multiple = model.size_multiple
    padded = tuple(layers.round_up(side, multiple) for side in (height, width))
    title = f"{type(model).__name__} x{model.scale}: LR {width}x{height}, padded to {padded[1]}x{padded[0]}"
    return Table(title, ["modules (with what they hold)", "number", "parameters", "GMACs"], rows)


def _macs_of(name: str, module: nn.Module, macs: dict[str, int]) -> int:
    """Those of a module; a container that is never called itself, such as a ModuleList, has those of what it holds."""
    if name in macs:
        return macs[name]
    return sum(_macs_of(f"{name}.{child}", held, macs) for child, held in module.named_children())

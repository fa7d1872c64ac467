"""Parameters, multiply-accumulates (MACs) and activations of a network, per kind of module, and as NTIRE reports them.

Counted as MACs are convolutions, matrix products and attention, on the LR image as the network pads it; additions,
normalisations, activation functions and interpolation are not, as is usual. One MAC is two FLOPs; papers print MACs as
"FLOPs". Activations are the numbers that the convolutions put out.

The second table has the columns of the NTIRE efficient super-resolution challenges (Li et al., CVPR Workshops 2022,
arXiv 2205.05675, and those since), for their LR image of 256x256: parameters; FLOPs, which are MACs there too;
activations and convolutions, of modules of nn.Conv2d and nn.ConvTranspose2d alone, as in their code (first in AIM 2020,
Zhang et al., arXiv 2009.06943); milliseconds an image; the most memory allocated, with weights and image. They take the
mean time over the images of a validation set on a GPU of theirs; here it is the median of ``--turns`` on one image of
256x256 in fp32, so times compare with each other on one machine only.
"""

import argparse
import copy
import math
from collections import Counter

import torch
from torch import nn

from ssiu.bench.options import at_least
from ssiu.bench.timing import race
from ssiu.bench.variants import network_of
from ssiu.config.load import load_config
from ssiu.device import describe, select_device, set_arithmetic
from ssiu.inference.complexity import count
from ssiu.models import layers
from ssiu.models.base import SRNetwork
from ssiu.report.tables import ABSENT, Cell, Number, Table

NTIRE_SIDE = 256  # LR pixels
TURNS = 10  # where there is a GPU


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="configs/SSUFSR_light_x4.yml", help="default: the paper's x4")
    parser.add_argument(
        "--size", type=at_least(16), nargs=2, default=(1280, 720), metavar=("W", "H"), help="SR; default 1280 720"
    )
    parser.add_argument(
        "--turns", type=at_least(0), metavar="N", help=f"for time and memory; default {TURNS} on a GPU, 0 on a CPU"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as scale=2 attention=dense, or model=any pretrain=FILE"
    )


def run(arguments: argparse.Namespace) -> list[Table]:
    """The tables for the network of a config."""
    config = load_config(arguments.config, arguments.overrides)
    width, height = (side // config.scale for side in arguments.size)
    device = select_device(config.device, config.gpu_ids)
    turns = arguments.turns if arguments.turns is not None else TURNS * (device.type == "cuda")
    model = network_of(config).eval()
    return [complexity_table(model, height, width), ntire_table(model, device, turns)]


def complexity_table(model: SRNetwork, height: int, width: int) -> Table:
    """A row for each kind of module; those that hold others include them."""
    counts = count(model, height, width)
    number, parameters, products, activations = (Counter[str]() for _ in range(4))
    outer = "" if model.core is model else "network."
    for full_name, module in model.named_modules():
        name = full_name.removeprefix(outer)
        kind = type(module)
        ours = kind.__module__.startswith("ssiu.models.") and kind.__module__ != layers.__name__
        if full_name not in ("", "network") and (ours or "." not in name):
            label = kind.__name__ if ours else name
            number[label] += 1
            parameters[label] += _parameters(module)
            products[label] += _macs_of(full_name, module, counts.macs)
            activations[label] += counts.activations.get(full_name, 0)
    rows = [_complexity_row(k, number[k], parameters[k], products[k], activations[k]) for k in number]
    whole = _parameters(model), counts.macs[""], counts.activations.get("", 0)
    rows.append(_complexity_row("whole network", 1, *whole))
    padded = model.padded_size(height, width)
    title = f"{model.architecture} x{model.scale}: LR {width}x{height}, padded to {padded[1]}x{padded[0]}"
    header = ["modules (with what they hold)", "number", "parameters", "GMACs", "M activations"]
    return Table(title, header, rows)


def _complexity_row(label: str, number: int, parameters: int, macs: int, activations: int) -> list[Cell]:
    large = Number(parameters, ",d"), Number(macs / 1e9, ".2f"), Number(activations / 1e6, ".2f")
    return [label, Number(number, "d"), *large]


def ntire_table(model: SRNetwork, device: torch.device, turns: int) -> Table:
    """The columns of the NTIRE efficiency challenges; time and memory of ``turns`` passes, none of them for 0."""
    counts = count(model, NTIRE_SIDE, NTIRE_SIDE)
    timed: list[Cell] = [ABSENT, ABSENT]
    note = "Time and memory are not measured on a CPU unless asked for: --turns 5."
    if turns:
        timed, note = _measured(model, device, turns), f"Median of {turns} turns on {describe(device)}."
    header = ["NTIRE efficiency", "params M", "FLOPs G", "acts M", "convs", "ms", "peak MiB"]
    figures = _parameters(model) / 1e6, counts.macs[""] / 1e9, counts.activations.get("", 0) / 1e6
    row: list[Cell] = [f"{model.architecture} x{model.scale}", *(Number(figure, ".3f") for figure in figures)]
    title = f"LR {NTIRE_SIDE}x{NTIRE_SIDE}, as the NTIRE efficient super-resolution challenges count"
    return Table(title, header, [[*row, Number(counts.convolutions, "d"), *timed]], (note,))


@torch.no_grad()
def _measured(model: SRNetwork, device: torch.device, turns: int) -> list[Cell]:
    """Milliseconds, and MiB with weights and image."""
    set_arithmetic("fp32")
    model = copy.deepcopy(model).to(device)
    lr = torch.rand(1, 3, NTIRE_SIDE, NTIRE_SIDE, device=device)
    result = race({model.architecture: lambda: model(lr)}, turns, device)[model.architecture]
    held = sum(tensor.nbytes for tensor in (lr, *model.parameters(), *model.buffers()))
    memory = math.nan if result.memory is None else (result.memory + held) / 2**20
    return [Number(1000 * result.median, ".2f"), Number(memory, ".1f")]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _macs_of(name: str, module: nn.Module, macs: dict[str, int]) -> int:
    """Those of a module; a container that is never called itself, such as a ModuleList, has those of what it holds."""
    if name in macs:
        return macs[name]
    return sum(_macs_of(f"{name}.{child}", held, macs) for child, held in module.named_children())

"""Inference of a network, side by side; weights are random, which costs the same.

literal is ssiu/models/literal.py (SSIU only): eager, fp32, NCHW. The others: eager, eager-bf16 by
autocast, compiled, prepared, prepared-bf16, and the ONNX file of --onnx by ONNX Runtime and, where it is
installed, by OpenVINO. The config's ``tile`` holds for all.
"times faster" compares with the first, "from" and "to" are its quartiles; "x limit" is time over what the network's
products need at this machine's fp32 rate; "peak MiB" is what a call needs beyond weights and input.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ssiu.bench.openvino import openvino_networks
from ssiu.bench.options import add_race_options, at_least
from ssiu.bench.timing import Machine, race, race_table
from ssiu.bench.variants import literal_network, network_of, taking_part
from ssiu.config.load import load_config
from ssiu.device import autocast, describe, keep_freed_memory, select_device, set_arithmetic
from ssiu.inference.complexity import count_macs
from ssiu.inference.networks import load_network
from ssiu.inference.prepare import PreparedNetwork, prepare
from ssiu.inference.tiles import super_resolve
from ssiu.models.base import SRNetwork
from ssiu.report.tables import Table

TABLE_2 = (120, 80), 100  # LR size of a 480x320 output at x4, and how many


def in_bf16(model: SRNetwork) -> Callable[..., Tensor]:
    """``model`` under autocast."""

    def network(lr: Tensor, *tile_offset: Tensor) -> Tensor:
        with autocast(lr.device, "bf16"):
            return model(lr, *tile_offset)

    return network


VARIANTS: dict[str, Callable[[SRNetwork], PreparedNetwork]] = {
    "literal": lambda model: replace(PreparedNetwork.of(model, literal_network(model)), takes_tile_offset=False),
    "eager": PreparedNetwork.of,
    "eager-bf16": lambda model: PreparedNetwork.of(model, in_bf16(model)),
    "compiled": lambda model: PreparedNetwork.of(model, torch.compile(model)),
    "prepared": prepare,
    "prepared-bf16": lambda model: prepare(model, torch.bfloat16),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_race_options(parser, list(VARIANTS), turns=15)
    parser.add_argument(
        "--size", type=at_least(16), nargs=2, action="append", metavar=("W", "H"),
        help="of LR, several times if you like; default 120 80",
    )  # fmt: skip
    parser.add_argument("--table2", action="store_true", help="Table II's workload: 100 outputs of 480x320 at x4")
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE", help="of ssiu export onnx: also by ONNX Runtime and OpenVINO"
    )


@torch.no_grad()
def run(arguments: argparse.Namespace) -> list[Table]:
    """A table for every size."""
    config = load_config(arguments.config, arguments.overrides)
    sizes, turns = ([TABLE_2[0]], TABLE_2[1]) if arguments.table2 else (arguments.size or [(120, 80)], arguments.turns)
    device = select_device(config.device, config.gpu_ids)
    keep_freed_memory()
    set_arithmetic("fp32")
    model = network_of(config).eval()
    macs = {size: count_macs(model, *reversed(size))[""] for size in map(tuple, sizes)}  # on the CPU
    model.to(device)
    names = taking_part(arguments.variants, list(VARIANTS), model, device)
    networks = {name: VARIANTS[name](model) for name in names}
    if arguments.onnx:
        networks["ONNX Runtime"] = prepare(load_network(arguments.onnx, config.scale, device))
        networks |= openvino_networks(arguments.onnx, model.size_multiple)
    machine = Machine.measured(device)
    tables = []
    for (width, height), products in macs.items():
        lr = torch.rand(1, 3, height, width, device=device)
        calls = {name: partial(super_resolve, network, lr, config.tile) for name, network in networks.items()}
        results = race(calls, turns, device)
        tiles = f", tile {config.tile}" if config.tile else ""
        title = f"{model.architecture} x{model.scale}, LR {width}x{height}{tiles}, {describe(device)}, {turns} turns"
        tables.append(race_table(title, results, 2 * products, machine, width * height))
    return tables

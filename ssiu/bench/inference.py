"""Inference of a network: literal, as it is, compiled, prepared, and in bf16, side by side.

The first contestant is the literal network of tests/reference_ssiu.py (SSIU only, from a clone): eager, fp32, NCHW.
"x limit" is time over what the network's products need at this machine's matrix rate in fp32 (10 is ten times slower).
"""

import argparse
import runpy
from pathlib import Path

import torch
from torch import nn

from ssiu.bench.complexity import count_macs
from ssiu.bench.race import peak_flops, race, race_table
from ssiu.config import load_config
from ssiu.device import autocast, peak_memory, select_device, set_arithmetic
from ssiu.models import SSIU, build_model
from ssiu.report.tables import Table

LITERAL = Path(__file__).parents[2] / "tests" / "reference_ssiu.py"
TABLE_2 = ((120, 80), 100)  # LR size of a 480x320 output at x4, and how many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="configs/SSUFSR_light_x4.yml", help="default: the paper's x4")
    parser.add_argument("--size", type=int, nargs=2, default=(120, 80), metavar=("W", "H"), help="of LR; 120 80")
    parser.add_argument("--turns", type=int, default=15, help="default 15")
    parser.add_argument("--table2", action="store_true", help="Table II's workload: 100 outputs of 480x320 at x4")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as device=cuda")


@torch.no_grad()
def run(arguments: argparse.Namespace) -> list[Table]:
    """One table; the networks have random weights, which cost the same."""
    config = load_config(arguments.config, arguments.overrides)
    (width, height), turns = TABLE_2 if arguments.table2 else (arguments.size, arguments.turns)
    device = select_device(config)
    set_arithmetic("fp32")
    model = build_model(config).eval()
    flop = 2 * count_macs(model, height, width)[""]
    model.to(device)
    lr = torch.rand(1, 3, height, width, device=device)

    def in_bf16(network: nn.Module) -> torch.Tensor:
        with autocast(device, "bf16"):
            return network(lr)

    contestants = {}
    if isinstance(model, SSIU) and LITERAL.exists():
        literal = literal_network(model).to(device)
        contestants["literal"] = lambda: literal(lr)
    compiled = torch.compile(model)
    prepared, prepared_bf16 = model.prepare_for_inference(), model.prepare_for_inference(torch.bfloat16)
    contestants |= {
        "eager": lambda: model(lr),
        "eager, bf16 autocast": lambda: in_bf16(model),
        "compiled": lambda: compiled(lr),
        "prepared": lambda: prepared(lr),
        "prepared, bf16": lambda: prepared_bf16(lr),
    }
    results = race(contestants, turns, device)
    where = (
        f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name()
    )
    title = f"{type(model).__name__} x{model.scale}, LR {width}x{height}, {where}, {turns} turns"
    table = race_table(title, results, flop, peak_flops(device, torch.float32))
    note = f"peak memory of the process: {peak_memory(device) / 2**20:.0f} MiB, all contestants together"
    return [Table(table.title, table.header, table.rows, (note,))]


def literal_network(model: SSIU) -> nn.Module:
    """The network of tests/reference_ssiu.py with the weights of ``model``."""
    literal = runpy.run_path(str(LITERAL))["LiteralSSIU"](**model.arguments())
    literal.load_state_dict(model.state_dict())
    return literal.eval()

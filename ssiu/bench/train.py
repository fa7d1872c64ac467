"""Training steps of a network, side by side: forward, loss, backward and optimizer on one batch of noise.

literal is ssiu/models/literal.py (SSIU only): fp32, NCHW. The others: fp32 and bf16 as the trainer runs them, and both
compiled. Loss, optimizer, batch, LR size (patch_size / scale) and ``checkpoint_activations`` are the config's. "times
faster" compares with the first, "from" and "to" are its quartiles; "x limit" is time over what the products of the
network and its gradient need at this machine's fp32 rate; "peak MiB" is what a step needs beyond weights and batch.
"""

import argparse
import copy
from collections.abc import Callable

import torch
from torch import nn

from ssiu.bench.options import add_race_options
from ssiu.bench.timing import Machine, race, race_table
from ssiu.bench.variants import literal_network, taking_part
from ssiu.config.load import load_config
from ssiu.config.schema import Config
from ssiu.device import autocast, describe, memory_advice, select_device, set_arithmetic, tuned_convolutions
from ssiu.errors import ConfigError
from ssiu.inference.complexity import count_macs
from ssiu.models import build_model
from ssiu.models.base import SRNetwork, checkpoint_activations
from ssiu.report.tables import Table
from ssiu.training.losses import build_loss, total_loss
from ssiu.training.optimizers import build_optimizer

LITERAL_SIDE = 9  # it reflects LR up to the next multiple of 16, which takes more pixels than are added
VARIANTS = ["literal", "fp32", "bf16", "compiled-fp32", "compiled-bf16"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_race_options(parser, VARIANTS, turns=5)


def run(arguments: argparse.Namespace) -> list[Table]:
    """One table."""
    config = load_config(arguments.config, arguments.overrides)
    device = select_device(config.device, config.gpu_ids)
    set_arithmetic("fp32", config.deterministic)
    side = config.patch_size // config.scale
    model = build_model(config)
    flop = 3 * 2 * config.batch_size * count_macs(model, side, side)[""]  # the gradient takes twice the forward's
    model.to(device)
    steps = {}
    for name in taking_part(arguments.variants, VARIANTS, model, device):
        if name == "literal" and side < LITERAL_SIDE:
            raise ConfigError(
                f"patch_size {config.patch_size}: the literal network cannot pad LR patches of {side}x{side}; use "
                f"{LITERAL_SIDE * config.scale} or more, or --variants fp32,bf16"
            )
        precision = "bf16" if name.endswith("bf16") else "fp32"
        steps[name] = training_step(variant(name, model, config), precision, config, device)
    with memory_advice(config):
        results = race(steps, arguments.turns, device)
    title = (
        f"{model.architecture} x{model.scale}, batch {config.batch_size} of LR {side}x{side}, {describe(device)}, "
        f"{arguments.turns} turns{', activations checkpointed' if config.checkpoint_activations else ''}"
    )
    return [race_table(title, results, flop, Machine.measured(device), config.batch_size * side**2)]


def variant(name: str, model: SRNetwork, config: Config) -> nn.Module:
    """A copy of ``model`` in the form of ``name``."""
    if name == "literal":
        return literal_network(model)
    network = copy.deepcopy(model)
    if config.checkpoint_activations:
        checkpoint_activations(network)
    if name.startswith("compiled"):
        network.compile()
    return network


def training_step(network: nn.Module, precision: str, config: Config, device: torch.device) -> Callable[[], None]:
    """One optimizer step of ``network`` on a batch of noise, the same for all."""
    optimizer = build_optimizer(network, config)
    loss = build_loss(config).to(device)
    noise = torch.Generator().manual_seed(0)
    lr_side, hr_side = config.patch_size // config.scale, config.patch_size
    lr, hr = (torch.rand(config.batch_size, 3, s, s, generator=noise).to(device) for s in (lr_side, hr_side))

    @tuned_convolutions()
    def step() -> None:
        with autocast(device, precision):
            sr = network(lr)
        total_loss(loss(sr, hr)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step

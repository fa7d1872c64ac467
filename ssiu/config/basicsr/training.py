"""The optimizer, schedule, average and losses of an option file."""

import math
import re
from typing import Any

import torch

from ssiu.config.basicsr.lines import Options
from ssiu.errors import ConfigError

DEFAULTS = {
    "Adam": {"betas": [0.9, 0.999], "weight_decay": 0.0},
    "AdamW": {"betas": [0.9, 0.999], "weight_decay": 0.01},
}
"""What torch's have where an option file says nothing."""

LOSSES = {"L1Loss": "l1", "MSELoss": "mse", "CharbonnierLoss": "charbonnier", "FFTLoss": "fft"}


def carry_training(options: Options) -> None:
    """The section ``train``."""
    train = options.section("train")
    if not isinstance(train.get("optim_g"), dict) or train.get("total_iter") is None:
        raise ConfigError(f"{options.path}: 'train': expected optim_g and total_iter")
    options.carried("train.total_iter", max_iterations=options.get("train.total_iter", int))
    _carry_optimizer(options, train["optim_g"])
    _carry_schedule(options)
    if decay := options.get("train.ema_decay", float, 0.0):
        options.carried("train.ema_decay", ema_decay=decay, ema_warmup=False)
    else:
        options.carried("train.ema_decay", "no average")
    options.config["losses"] = {}
    for name, given in train.items():
        if name.endswith("_opt") and isinstance(given, dict):
            if name in ("pixel_opt", "fft_opt"):
                _carry_loss(options, f"train.{name}")
            options.lost(f"train.{name}", "no such loss here; losses takes your own, FILE.py:Class")
    if not options.config["losses"]:
        raise ConfigError(f"{options.path}: 'train': expected pixel_opt or fft_opt with one of {', '.join(LOSSES)}")


def _carry_optimizer(options: Options, given: dict[str, Any]) -> None:
    key = "train.optim_g"
    kind, rate = options.get(f"{key}.type", str, ""), options.get(f"{key}.lr", float)
    if not re.fullmatch(r"[A-Za-z]\w*", kind):
        raise options.error(f"{key}.type", "the name of an optimizer", kind)
    if rate is None:
        raise options.error(f"{key}.lr", "a number", rate)
    options.carried(f"{key}.lr", lr=rate)
    arguments = {name: value for name, value in given.items() if name not in ("type", "lr")}
    if kind in DEFAULTS and arguments.keys() <= DEFAULTS[kind].keys():
        options.carried(f"{key}.type", optimizer=kind.lower())
        for name, default in DEFAULTS[kind].items():
            options.carried(f"{key}.{name}", **{name: arguments.get(name, default)})
        return
    if hasattr(torch.optim, kind):
        options.carried(f"{key}.type", optimizer=f"torch.optim:{kind}")
    else:
        options.changed(f"{key}.type", "if that package has it", optimizer=f"pytorch_optimizer:{kind}")
    for name in arguments:
        options.carried(f"{key}.{name}", "in optimizer_args")
    options.config["optimizer_args"] = arguments


def _carry_schedule(options: Options) -> None:
    key = "train.scheduler"
    kind, warmup = options.get(f"{key}.type", str), max(options.get("train.warmup_iter", int, -1), 0)
    options.carried("train.warmup_iter", **({"warmup_iterations": warmup} if warmup > 1 else {"note": "none"}))
    if kind in ("MultiStepLR", "MultiStepRestartLR"):
        options.carried(f"{key}.type", scheduler="multistep")
        options.carried(f"{key}.gamma", gamma=options.get(f"{key}.gamma", float, 0.1))
        _carry_milestones(options, warmup)
    elif kind == "CosineAnnealingRestartLR":
        options.carried(f"{key}.type", scheduler="restarts")
        options.carried(f"{key}.periods", periods=options.numbers(f"{key}.periods", int, []))
        options.carried(
            f"{key}.restart_weights", restart_weights=options.numbers(f"{key}.restart_weights", float, [1.0])
        )
        options.carried(f"{key}.eta_min", eta_min=options.get(f"{key}.eta_min", float, 0.0))
    elif kind == "CosineAnnealingLR":
        total = options.config["max_iterations"]
        period = options.get(f"{key}.T_max", int, total)
        options.carried(f"{key}.type", scheduler="restarts")
        options.carried(f"{key}.eta_min", eta_min=options.get(f"{key}.eta_min", float, 0.0))
        if period >= total:
            options.carried(f"{key}.T_max", periods=[period])
        else:
            options.changed(f"{key}.T_max", "the rate stays at eta_min then, and does not rise again", periods=[period])
    else:
        expected = "MultiStepLR, CosineAnnealingRestartLR or CosineAnnealingLR (the key scheduler has others)"
        raise options.error(f"{key}.type", expected, kind)


def _carry_milestones(options: Options, warmup: int) -> None:
    """BasicSR takes each rate from the one before, so a warm-up leaves its mark on all that follow."""
    key, milestones = "train.scheduler.milestones", options.numbers("train.scheduler.milestones", int, [])
    if warmup > 1:
        rate = options.config["lr"] * (warmup - 1) / warmup
        stays = f"the rate stays where a warm-up of {warmup} leaves it, one step short of lr"
        options.changed("train.warmup_iter", stays, warmup_iterations=warmup - 1)
        options.changed("train.optim_g.lr", stays, lr=rate)
    kept = [each for each in milestones if each + 1 >= warmup]
    if kept == milestones:
        options.carried(key, milestones=milestones)
    else:
        options.changed(key, "those of the warm-up are without effect", milestones=kept)
    if not kept:
        del options.config["milestones"]
        options.config["scheduler"] = "constant"


def _carry_loss(options: Options, key: str) -> None:
    kind, reduction = options.get(f"{key}.type", str, ""), options.get(f"{key}.reduction", str, "mean")
    if kind not in LOSSES or reduction not in ("mean", "sum"):
        return
    name, weight = LOSSES[kind], options.get(f"{key}.loss_weight", float, 1.0)
    if name in options.config["losses"]:
        raise ConfigError(f"{options.path}: '{key}' is a second {kind}: add the weights of the two")
    options.carried(f"{key}.type", f"losses: {name}")
    options.carried(f"{key}.loss_weight", f"its weight: {weight}")
    options.carried(f"{key}.reduction", "the mean")
    if reduction == "sum":
        side = options.config.get("patch_size", 1)
        numbers = 3 * side * (2 * (side // 2 + 1) if name == "fft" else side)
        weight *= numbers * options.get("datasets.train.batch_size_per_gpu", int, 1)
        options.changed(f"{key}.reduction", f"the mean, its weight times the numbers in a batch: {weight}")
    options.config["losses"][name] = weight
    if name == "charbonnier":
        eps = math.sqrt(options.get(f"{key}.eps", float, 1e-12))
        options.config["losses"][name] = {"weight": weight, "eps": eps}
        options.changed(f"{key}.eps", f"eps: {eps}, which is squared here")

"""What the tests of several processes run in each of them."""

import os
from pathlib import Path

import torch
from torch import nn

from ssiu.cli import train
from ssiu.cli.console import run_cli
from ssiu.config.load import load_config
from ssiu.training.trainer import Trainer


def first_gradients(config: str, target: str) -> None:
    """Writes the gradients that the first step applies."""
    run = Trainer(load_config(config, [f"log_name={Path(target).stem}"]))

    def keep(*_: object) -> None:
        gradients = [p.grad.flatten() for p in run.model.parameters()]
        torch.save(torch.cat(gradients), target)

    run.optimizer.register_step_pre_hook(keep)
    batches = run._batches()
    run.train_step([next(batches) for _ in range(run.config.accumulate)])
    run.close()


def weights_in_double(config: str, target: str) -> None:
    """Writes the weights after a whole run in float64."""
    torch.set_default_dtype(torch.float64)
    run = Trainer(load_config(config, [f"log_name={Path(target).stem}"]))
    run.run()
    torch.save(nn.utils.parameters_to_vector(run.model.parameters()).detach(), target)


def signalled(signum: int, step: int, rank: int, arguments: list[str]) -> None:
    """train.py, where ``rank`` alone sends itself a signal after ``step`` steps."""
    original = Trainer.train_step

    def train_step(run: Trainer, batches: list) -> None:
        original(run, batches)
        if run.step == step and run.processes.rank == rank:
            os.kill(os.getpid(), signum)

    Trainer.train_step = train_step
    run_cli(train.main, arguments)

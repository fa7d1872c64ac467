"""What a run says of itself: the first lines of its log, then a line every ``log_every`` steps."""

import contextlib
import logging
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ssiu.config.schema import Config
from ssiu.data.stream import TrainingData
from ssiu.device import describe, peak_memory, warn_of_emulation
from ssiu.files import PACKAGE
from ssiu.models.base import SRNetwork
from ssiu.progress import Progress
from ssiu.training.checkpoints import Checkpoints
from ssiu.training.distributed import Processes
from ssiu.training.run_folder import RunFolder
from ssiu.training.schedule import Schedule

log = logging.getLogger("ssiu")


def log_start(
    config: Config, stream: TrainingData, schedule: Schedule, model: SRNetwork, processes: Processes, step: int
) -> None:
    """The command, the code's version, what it runs on and what it computes, and what is unwise in it."""
    log.info("command: %s", shlex.join(sys.argv))
    log.info("code %s, Python %s, torch %s", git_commit(), platform.python_version(), torch.__version__)
    warn_of_emulation(processes.device, config.precision)
    log.info("device: %s x %d, precision %s", describe(processes.device), processes.world, config.precision)
    parameters = sum(p.numel() for p in model.parameters())
    log.info("network: %s x%d, %s parameters", model.architecture, config.scale, f"{parameters:,}")
    log.info("data: %s; %s samples an epoch", stream, f"{schedule.samples_per_epoch:,}")
    log.info("steps: %d to %d of %d samples each", step, schedule.total_steps, schedule.samples_per_step)
    if config.validation_set and not config.validates:
        log.warning("nothing is validated, so %s chooses no best.pt; set validate_every", config.validation_set)
    side, window = config.patch_size // config.scale, model.size_multiple
    if window > 1 and side <= 2 * window:
        log.warning(
            "LR patches of %dx%d: every window of the attention touches the border, and a long training learns to "
            "rely on it; use patch_size=%d or more (docs/experiments/training.md)",
            *(side, side, 3 * window * config.scale),
        )


def log_end(config: Config, checkpoints: Checkpoints) -> None:
    """The best state, and the command that scores what the run leaves."""
    weights, best = checkpoints.last, checkpoints.best_score
    if best["psnr"] is not None:
        weights = checkpoints.best
        log.info("best: PSNR %.3f dB on %s at step %d, %s", best["psnr"], config.validation_set, best["step"], weights)
    command = ["python", "-m", "ssiu", "test", "--config", str(config.run_folder / "config.yml"), f"pretrain={weights}"]
    command += [] if config.eval_sets else ["eval_sets=[Set5,Set14,B100,Urban100,Manga109]"]
    log.info("score it: %s", shlex.join(command))


def git_commit(root: Path = PACKAGE.parent) -> str:
    """Of the clone in ``root``; the repository that an installed package may lie in is not ours."""
    if not (root / ".git").exists():
        return "without git"
    command = ["git", f"--git-dir={root / '.git'}", f"--work-tree={root}", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "without git"


class StepLog:
    """The losses, rates and speed since the last line, and the time that is left, in the log and in the run's folder.

    Validations do not count in the speed, but in the time that is left.
    """

    def __init__(self, config: Config, schedule: Schedule, device: torch.device, folder: RunFolder | None, step: int):
        self.config, self.schedule, self.device, self.folder = config, schedule, device, folder
        self._validation = 0.0  # seconds that the last one took
        self._restart(step)

    def _restart(self, step: int) -> None:
        self._start, self._step, self._waited = time.perf_counter(), step, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def validating(self, step: int) -> Iterator[None]:
        """Around a validation after ``step`` steps."""
        start = time.perf_counter()
        yield
        self._validation = time.perf_counter() - start
        self._restart(step)

    def write(self, step: int, losses: Mapping[str, float], bar: Progress) -> None:
        """A line after ``step`` steps, with the mean ``losses`` since the one before."""
        seconds, last, total = time.perf_counter() - self._start, step - 1, self.schedule.total_steps
        speed, waited = (step - self._step) / seconds, self._waited / seconds
        rates = {"lr": self.schedule.learning_rate(last)}
        if self.config.optimizer == "muon":
            rates["muon_lr"] = rates["lr"] * self.config.muon_lr / self.config.lr
        memory = peak_memory(self.device) / 2**20
        left = (total - step) / speed + self._validation * self.schedule.validations_after(last)  # that of now included
        bar.set_postfix(loss=f"{losses['loss']:.4f}")
        log.info(
            "step %d/%d  %s  %s  %.2f it/s  data wait %.0f%%  peak %.0f MiB  ETA %s",
            *(step, total, "  ".join(f"{name} {value:.5f}" for name, value in losses.items())),
            *("  ".join(f"{name} {rate:.3g}" for name, rate in rates.items()), speed, 100 * waited, memory),
            Progress.format_interval(left),
        )
        if self.folder:
            measured = {"it_per_s": round(speed, 4), "data_wait": round(waited, 4), "peak_mib": round(memory)}
            self.folder.write("train", step, {"epoch": self.schedule.epoch(last), **losses, **rates, **measured})
        self._restart(step)

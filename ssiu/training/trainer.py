"""Training: one readable loop over a stream of patches whose n-th batch never depends on what ran before.

`Trainer.run` is the whole story: { validate, save, one step, log } until the last step. A run that was stopped anywhere
goes on bit for bit, because everything a step depends on is in the checkpoint or a pure function of the step number.
"""

import contextlib
import logging
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

from ssiu.config.schema import Config
from ssiu.data.patches import PatchStream, build_stream
from ssiu.data.stream import TrainingData
from ssiu.data.test_sets import shared_files
from ssiu.device import (
    autocast,
    describe,
    memory_advice,
    peak_memory,
    seed_draws,
    set_arithmetic,
    tuned_convolutions,
    warn_of_emulation,
)
from ssiu.errors import (
    ConfigError,
    MissingInputError,
    OutputError,
    SSIUError,
    StoppedError,
    first_names,
)
from ssiu.files import remove_leftovers, write_atomically
from ssiu.models import build_model, check_trainable
from ssiu.models.layers import checkpoint_activations
from ssiu.progress import Progress, log_to_console
from ssiu.training.distributed import join_processes
from ssiu.training.ema import moving_average
from ssiu.training.loss_log import LossLog
from ssiu.training.losses import build_loss, total_loss
from ssiu.training.optimizers import build_optimizer, load_optimizer_state, optimizer_state, set_learning_rate
from ssiu.training.resume import find_state, refuse_changes, taken_over
from ssiu.training.run_folder import Clock, RunFolder, log_environment
from ssiu.training.schedule import Schedule
from ssiu.training.signals import StopSignal
from ssiu.training.validation import Validation
from ssiu.weights.checkpoint import save_checkpoint
from ssiu.weights.load import load_trunk, load_weights

log = logging.getLogger("ssiu")


class Trainer:
    """One training run, ready at the step it starts or continues from.

    ``resume``: none (73 if the folder holds a run) | auto (continue it, or start) | a checkpoint or run folder.
    ``stream`` replaces the configured training data.
    """

    def __init__(
        self, config: Config, resume: str = "none", allow_changes: bool = False, stream: TrainingData | None = None
    ):
        check_trainable(config)  # before a folder is made
        if not log.hasHandlers():  # in a script that has set up no logging
            log_to_console()
        self.config = config
        set_arithmetic(config.precision, config.deterministic)
        self.processes = join_processes(config)
        self.device = self.processes.device
        self.stop = StopSignal()
        self.folder = RunFolder(config.run_folder) if self.processes.is_main else None  # before any long work
        try:
            with self.processes.watched():
                self._prepare(resume, allow_changes, stream)
        except BaseException:
            self.close()
            raise

    def _prepare(self, resume: str, allow_changes: bool, stream: TrainingData | None) -> None:
        config = self.config
        if resume == "none" and self.folder and self.folder.holds_run:
            raise OutputError(f"{self.folder.path} already holds a run; --resume auto continues it, or set log_name")
        self.validation = Validation(config)
        self.stream = stream or build_stream(config)
        self._warn_of_shared_images()
        self.schedule = Schedule(config, self.stream.samples_per_epoch)

        self.step = 0  # completed optimizer steps
        self.saved = (0, 0)  # step and validated in last.pt
        self.validated = 0  # the step of the last validation
        self.best: dict[str, Any] = {"psnr": None, "step": 0}
        self.loss_log = LossLog(config, self.processes, self.stream)
        self._validation_seconds = 0.0  # that the last one took

        torch.manual_seed(config.seed)
        self.model = build_model(config).to(self.device)
        self.loss = build_loss(config).to(self.device)
        self.optimizer = build_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.ema = moving_average(self.model, self.optimizer, config.ema_decay)
        if resume == "none" or not self._resume(resume, allow_changes):
            if config.pretrain:
                load_weights(self.model, config.pretrain)
            if config.init_trunk:
                load_trunk(self.model, config.init_trunk)
        if self.ema and not self.ema.updates:  # a validation may come before the first
            self.ema.module.load_state_dict(self.model.state_dict())
        if self.processes.largest(self.step) != -self.processes.largest(-self.step):
            raise MissingInputError(f"not all nodes see the checkpoints of {config.run_folder}; use shared storage")
        self.network = self._wrap(self.model)

    def _wrap(self, model: nn.Module) -> nn.Module:
        """What is called in training: the model, checkpointed, compiled and spread over the ranks as configured."""
        if self.config.checkpoint_activations:
            checkpoint_activations(model)
        mode = self.config.compile
        network = torch.compile(model, mode=None if mode is True else mode) if mode else model
        if self.processes.world > 1:
            # 1x1 kernels' gradients, whose strides mean nothing: they are copied between the ranks either way
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            network = DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)
        return network

    # ------------------------------------------------------------------ the loop

    def run(self) -> str:
        """Trains to the last step and returns one line that says what happened."""
        with self.stop:
            try:
                if self.folder:
                    self.folder.require_space(sum(p.nbytes for p in self.model.parameters()) * (4 if self.ema else 3))
                    self.folder.open(self.config.to_yaml(), self.step, self.validated)
                with memory_advice(self.config), self.processes.watched():
                    return self._run()
            except BaseException as error:
                if isinstance(error, SSIUError):
                    log.error("%s", error)
                self.processes.abort()
                raise
            finally:
                self.close()

    def close(self) -> None:
        """Gives the run's folder free and leaves the process group."""
        if self.folder:
            self.folder.close()
        self.processes.close()

    def _run(self) -> str:
        config, total, started_at = self.config, self.schedule.total_steps, self.step
        last = config.run_folder / "models" / "last.pt"
        if self.step == total and self.saved == (self.step, self.validated) and not self._validation_is_due():
            return f"already complete: {self.step} iterations, {last}"
        self._log_start()
        if self.step and self.saved == (0, 0):  # continued from elsewhere: without this a kill would start it over
            self._save(last)
        batches = self._batches()
        clock = Clock(self.step)
        with Progress(
            total=total, initial=self.step, unit="it", smoothing=0.05, lines=False, disable=not self.folder
        ) as bar:
            while True:
                if self._validation_is_due():
                    started = time.perf_counter()
                    self._validate()
                    self._validation_seconds = time.perf_counter() - started
                    clock.restart(self.step)
                stop = self.processes.largest(self.stop.signum or 0)
                due = stop or self.step == total or self.step % config.save_every == 0
                if due and self.step and self.saved != (self.step, self.validated):
                    self._save(last)
                if stop:
                    done = f"step {self.step} of {total} is saved in {last}" if self.step else "nothing to save yet"
                    raise StoppedError(f"stopped by {signal.Signals(stop).name}; {done}; --resume auto continues", stop)
                if self.step == total:
                    return f"finished: {self.step - started_at} iterations, {self.step} in all, {last}"
                with clock.waiting():
                    micro_batches = [next(batches) for _ in range(config.accumulate)]
                self.train_step(micro_batches)
                bar.update()
                if self.step % config.log_every == 0 or self.step == total:
                    self._log_step(clock, bar)
                    clock.restart(self.step)

    @tuned_convolutions()
    def train_step(self, micro_batches: list[tuple[Tensor, Tensor]]) -> None:
        """One optimizer step on ``accumulate`` batches of (LR, HR), (B, 3, h, w) uint8 or floats in [0, 1]."""
        set_learning_rate(self.optimizer, self.schedule.learning_rate(self.step))
        seed_draws(self.device, self.config.seed, self.step, self.processes.rank)  # for dropout
        losses: dict[str, Tensor] = {}  # the mean over the batches
        for index, (lr, hr) in enumerate(micro_batches, start=1):
            lr, hr = self._to_unit_range(lr), self._to_unit_range(hr)
            synchronised = index == len(micro_batches) or self.processes.world == 1
            with contextlib.nullcontext() if synchronised else self.network.no_sync():
                with autocast(self.device, self.config.precision):
                    sr = self.network(lr)
                terms = self.loss(sr, hr)
                loss = total_loss(terms)
                self.scaler.scale(loss / len(micro_batches)).backward()
            for name, value in ({"loss": loss} | terms).items():
                losses[name] = losses.get(name, 0) + value.detach() / len(micro_batches)
        if self.config.grad_clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip, foreach=True)
        self.scaler.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.model, self.step)
        self.loss_log.append(losses)
        self.step += 1
        self.loss_log.update(self.scaler)

    def _to_unit_range(self, image: Tensor) -> Tensor:
        image = image.to(self.device, non_blocking=True)
        return image.to(torch.get_default_dtype()).div_(255) if image.dtype == torch.uint8 else image

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        start, stop = (step * self.config.accumulate for step in (self.step, self.schedule.total_steps))
        rank, world = self.processes.rank, self.processes.world
        pin = self.device.type == "cuda"
        return iter(self.stream.loader(start, stop, rank, world, threads=self.config.threads, pin_memory=pin))

    # ------------------------------------------------------------------ looking at it

    def _log_start(self) -> None:
        config, schedule = self.config, self.schedule
        parameters = sum(p.numel() for p in self.model.parameters())
        log_environment()
        warn_of_emulation(self.device, self.config.precision)
        log.info("device: %s x %d, precision %s", describe(self.device), self.processes.world, config.precision)
        log.info("network: %s x%d, %s parameters", type(self.model).__name__, config.scale, f"{parameters:,}")
        log.info("data: %s; %s samples an epoch", self.stream, f"{schedule.samples_per_epoch:,}")
        log.info("steps: %d to %d of %d samples each", self.step, schedule.total_steps, schedule.samples_per_step)
        if config.validation_set and not config.validates:
            log.warning("nothing is validated, so %s chooses no best.pt; set validate_every", config.validation_set)
        side, window = config.patch_size // config.scale, self.model.size_multiple
        if window > 1 and side <= 2 * window:
            log.warning(
                "LR patches of %dx%d: every window of the attention touches the border, and a long training learns to "
                "count on that; use patch_size=%d or more (docs/experiments/training.md)",
                *(side, side, 3 * window * config.scale),
            )

    def _log_step(self, clock: Clock, bar: Progress) -> None:
        """Apart from validations and saves the one place where the host waits for the device."""
        losses = self.loss_log.take_mean(self.step)
        rate, wait_share = clock.rate(self.step)
        learning_rate = self.schedule.learning_rate(self.step - 1)
        memory, steps = peak_memory(self.device) / 2**20, self.schedule.total_steps
        validations = self.schedule.validations_after(self.step - 1)  # that of this step is still to come
        bar.set_postfix(loss=f"{losses['loss']:.4f}")
        log.info(
            "step %d/%d  %s  lr %.3g  %.2f it/s  data wait %.0f%%  peak %.0f MiB  ETA %s",
            *(self.step, steps, "  ".join(f"{name} {value:.5f}" for name, value in losses.items())),
            *(learning_rate, rate, 100 * wait_share, memory),
            Progress.format_interval((steps - self.step) / rate + self._validation_seconds * validations),
        )
        if self.folder:
            speed = {"it_per_s": round(rate, 4), "data_wait": round(wait_share, 4), "peak_mib": round(memory)}
            values = {"epoch": self.schedule.epoch(self.step - 1), **losses, "lr": learning_rate, **speed}
            self.folder.write("train", self.step, values)

    # ------------------------------------------------------------------ validation

    def _warn_of_shared_images(self) -> None:
        if self.folder and isinstance(self.stream, PatchStream):
            for train in self.stream.sets:
                for name, images in shared_files(train.hr, self.validation.sets).items():
                    log.warning(
                        "%s shares %d images with the training set %s (%s): its scores will say too much",
                        *(name, len(images), train.name, first_names(images)),
                    )

    def _validation_is_due(self) -> bool:
        return self.schedule.validates(self.step) and self.validated < self.step

    def _validate(self) -> None:
        """Scores all sets with the averaged weights where there are any; given up when a signal arrives."""
        model = (self.ema.current() if self.ema else self.model).eval()
        try:
            found = self.validation.run(model, self.device, self._may_give_up)
        finally:
            self.model.train()
        if found is None:
            return
        scores, strips, choosing = found
        if self.folder and strips:
            self.folder.write_images(self.step, strips)
        for name, score in scores.items():
            log.info("step %d  %s  PSNR %.3f dB  SSIM %.4f  (standard)", self.step, name, score.psnr, score.ssim)
        if self.folder and scores:
            values = {f"{kind}/{name}": getattr(s, kind) for name, s in scores.items() for kind in ("psnr", "ssim")}
            self.folder.write("validation", self.step, values)
        self.validated = self.step
        if choosing is not None:
            self._keep_best(choosing)

    def _may_give_up(self) -> bool:
        return self.stop.signum is not None and self.processes.world == 1  # other ranks would wait for this one

    def _keep_best(self, psnr: float) -> None:
        if self.best["psnr"] is None or psnr > self.best["psnr"]:
            self.best = {"psnr": psnr, "step": self.step}
            state = self._state()  # by all ranks together
            if self.folder:
                save_checkpoint(self.folder.models / "best.pt", state)

    # ------------------------------------------------------------------ checkpoints

    def _state(self) -> dict[str, Any]:
        """Everything the rest of the run depends on: tensors and plain values, all finite."""
        losses = self.loss_log.state(self.step)
        average, optimizer = self.ema.state_dict() if self.ema else None, optimizer_state(self.optimizer)
        tensors = [t for t in tree_leaves([*self.model.parameters(), average, optimizer]) if torch.is_tensor(t)]
        if not torch.stack([t.detach().isfinite().all().to(self.device) for t in tensors]).all():
            self.loss_log.refuse("gradient", self.step, {})
        return {
            "step": self.step,
            "config": self.config.model_dump(mode="json"),
            "data": self.stream.manifest,
            "model": self.model.state_dict(),
            "ema": average,
            "optimizer": optimizer,
            "scaler": self.scaler.state_dict(),
            **losses,
            "validated": self.validated,
            "best": self.best,
        }

    def _save(self, last: Path) -> None:
        """Writes ``models/last.pt`` and keeps the ``keep_last`` before it as ``step_N.pt``."""
        state = self._state()
        if self.folder:
            if self.saved[0] not in (0, self.step) and last.exists():
                write_atomically(last.with_name(f"step_{self.saved[0]:08d}.pt"), last.read_bytes())
            save_checkpoint(last, state)
            for old in sorted(last.parent.glob("step_*.pt"))[: -self.config.keep_last]:
                old.unlink()
        self.saved = (self.step, self.validated)

    def _resume(self, resume: str, allow_changes: bool) -> bool:
        """Takes over the newest valid checkpoint; False when ``auto`` finds none at all."""
        own = self.config.run_folder
        if self.folder:
            remove_leftovers(own / "models")
        found = find_state(resume, own)
        if found is None:
            return False
        path, state = found
        refuse_changes(self.config, self.stream.manifest, state, path, allow_changes)
        with taken_over(path):
            try:
                self.model.load_state_dict(state["model"])
            except RuntimeError:
                raise ConfigError(
                    f"{path} holds another network than the config: start a new run, or undo the change"
                ) from None
            before = state["config"].get("optimizer", self.config.optimizer)
            if not load_optimizer_state(self.optimizer, self.config, state["optimizer"], before):
                log.warning("the optimizer is another than that of %s: its moments start from zero", path)
            if state["scaler"]:  # empty where the checkpoint's precision was not fp16
                self.scaler.load_state_dict(state["scaler"])
            if self.ema and state["ema"]:
                self.ema.load_state_dict(state["ema"])
            elif self.ema:  # ema_decay was 0: the average begins here
                self.ema.module.load_state_dict(state["model"])
            self.step, self.validated = state["step"], state["validated"]
            same_set = state["config"].get("validation_set") == self.config.validation_set
            if same_set and (own / "models" / "best.pt").exists():
                self.best = {key: state["best"][key] for key in self.best}
            self.loss_log.restore(state)
        if self.step > self.schedule.total_steps:
            raise ConfigError(
                f"{path} is at step {self.step}, and the run would end at {self.schedule.total_steps}: raise "
                "max_iterations or epochs, or choose another log_name"
            )
        if path.resolve() == (own / "models" / "last.pt").resolve():
            self.saved = (self.step, self.validated)
        log.info("resumed at step %d from %s", self.step, path)
        return True

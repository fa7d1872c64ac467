"""Training: one readable loop over a stream of patches whose n-th batch never depends on what ran before.

`Trainer.run` is the whole story: { validate, save, one step, log } until the last step. A run that was stopped anywhere
goes on bit for bit, because everything a step depends on is in the checkpoint or a pure function of the step number.
"""

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

from ssiu.config.schema import Config
from ssiu.data.patches import PatchStream
from ssiu.data.stream import Batch, TrainingData
from ssiu.data.training_data import build_stream
from ssiu.device import autocast, memory_advice, seed_draws, set_arithmetic, tuned_convolutions
from ssiu.errors import BusyError, ConfigError, MissingInputError, OutputError, SSIUError, StoppedError
from ssiu.files import remove_leftovers
from ssiu.models import build_model, check_trainable
from ssiu.models.base import SRNetwork, checkpoint_activations
from ssiu.progress import Progress, log_to_console
from ssiu.training.checkpoints import Checkpoints
from ssiu.training.distributed import join_processes
from ssiu.training.ema import moving_average
from ssiu.training.loss_log import LossLog
from ssiu.training.losses import build_loss, total_loss
from ssiu.training.optimizers import build_optimizer, load_optimizer_state, optimizer_state, set_learning_rate
from ssiu.training.resume import find_state, refuse_changes, taken_over
from ssiu.training.run_folder import RunFolder
from ssiu.training.run_log import StepLog, log_end, log_start
from ssiu.training.schedule import Schedule
from ssiu.training.signals import StopSignal
from ssiu.training.validation import Validation, warn_of_shared_images
from ssiu.training.wandb_run import WandbRun, require_wandb
from ssiu.weights.hub import as_recorded, with_commits
from ssiu.weights.load import load_trunk, load_weights

log = logging.getLogger("ssiu")

FAILED = 128  # above every signal, among what the ranks tell each other: one of them got no batch


class Trainer:
    """One training run, ready at the step it starts or continues from.

    ``resume``: none (73 if the folder holds a run) | auto (continue it, or start) | a checkpoint or run folder.
    ``stream`` replaces the configured training data. Where no logging is set up, log lines go to stdout; a
    `logging.NullHandler` of the logger ``ssiu`` keeps them back.
    """

    def __init__(
        self, config: Config, resume: str = "none", allow_changes: bool = False, stream: TrainingData | None = None
    ):
        check_trainable(config)  # before a folder is made
        if config.tracker == "wandb":
            require_wandb()
        if not log.hasHandlers():
            log_to_console()
        self.config = config
        set_arithmetic(config.precision, config.deterministic)
        self.processes = join_processes(config)
        self.device = self.processes.device
        self.checkpoints = Checkpoints(config, writes=self.processes.is_main)
        self.stop = StopSignal(self.checkpoints.what_is_left)
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
        if self.folder and isinstance(self.stream, PatchStream):
            warn_of_shared_images(self.stream.sets, self.validation.sets)
        self.schedule = Schedule(config, self.stream.samples_per_epoch)

        self.step = 0  # completed optimizer steps
        self.validated = 0  # the step of the last validation
        self.loss_log = LossLog(config, self.processes, self.stream, self.checkpoints.what_is_left)

        torch.manual_seed(config.seed)
        self.model = build_model(config).to(self.device)
        self.loss = build_loss(config).to(self.device)
        self.optimizer = build_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.ema = moving_average(self.model, self.optimizer, config)
        if resume == "none" or not self._resume(resume, allow_changes):
            config = self.config = with_commits(config)
            if config.pretrain:
                load_weights(self.model, config.pretrain)
            if config.init_trunk:
                load_trunk(self.model, config.init_trunk)
        if self.ema and not self.ema.updates:  # a validation may come before the first
            self.ema.module.load_state_dict(self.model.state_dict())
        if self.processes.largest(self.step) != -self.processes.largest(-self.step):
            raise MissingInputError(f"not all nodes see the checkpoints of {config.run_folder}; use shared storage")
        self.network = self._wrap(self.model)

    def _wrap(self, model: SRNetwork) -> Any:
        """The module that training calls: the model, checkpointed, compiled and spread over the ranks as configured."""
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
                    tracker = WandbRun(self.config) if self.config.tracker == "wandb" else None
                    self.folder.open(self.config.to_yaml(), self.step, self.validated, tracker)
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
        config, total, started_at, last = self.config, self.schedule.total_steps, self.step, self.checkpoints.last
        if self.step == total and self._is_saved() and not self._validation_is_due():
            return f"already complete: {self.step} iterations, {last}"
        log_start(config, self.stream, self.schedule, self.model, self.processes, self.step)
        if self.step and self.checkpoints.saved == (0, 0):  # continued from elsewhere: a kill would start it over
            self.checkpoints.save(self._state())
        batches = self._batches()
        steps = StepLog(config, self.schedule, self.device, self.folder, self.step)
        with Progress(
            total=total, initial=self.step, unit="it", smoothing=0.05, lines=False, disable=not self.folder
        ) as bar:
            while True:
                if self._validation_is_due():
                    with steps.validating(self.step):
                        self._validate()
                with steps.waiting():
                    micro_batches, failed = self._next(batches)
                stop = self.processes.largest(FAILED if failed else self.stop.signum or 0)
                due = stop or self.step == total or self.step % config.save_every == 0
                if due and self.step and not self._is_saved():
                    self.checkpoints.save(self._state())
                if stop:
                    done = f"step {self.step} of {total} is saved in {last}" if self.step else "nothing to save yet"
                    done += "; --resume auto continues"
                    if failed:
                        raise type(failed)(f"{failed} ({done})")
                    if stop == FAILED:
                        raise BusyError(f"another rank got no training batch, and its last line says why; {done}")
                    raise StoppedError(f"stopped by {signal.Signals(stop).name}; {done}", stop)
                if self.step == total:
                    log_end(config, self.checkpoints)
                    return f"finished: {self.step - started_at} iterations, {self.step} in all, {last}"
                self.train_step(micro_batches)
                bar.update()
                if self.step % config.log_every == 0 or self.step == total:  # here the host waits for the device
                    steps.write(self.step, self.loss_log.take_mean(self.step), bar)

    def _next(self, batches: Iterator[Batch]) -> tuple[list[Batch], SSIUError | None]:
        """The batches of the next step, or what is wrong with them: all ranks save before that is raised."""
        if self.stop.signum or self.step == self.schedule.total_steps:
            return [], None
        try:
            return [next(batches) for _ in range(self.config.accumulate)], None
        except SSIUError as error:
            return [], error

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

    # ------------------------------------------------------------------ validation

    def _validation_is_due(self) -> bool:
        return self.schedule.validates(self.step) and self.validated < self.step

    def _validate(self) -> None:
        """Scores all sets with the averaged weights where there are any; given up when a signal arrives."""
        model = (self.ema.current() if self.ema else self.model).eval()
        try:
            found = self.validation.run(model, self._may_give_up)
        finally:
            self.model.train()
        if found is None:
            return
        scores, strips, choosing = found
        if self.folder and strips:
            self.folder.write_images(self.step, strips)
        for name, score in scores.items():
            log.info(
                "step %d  %s  PSNR %.3f dB (bicubic %.3f)  SSIM %.4f  (standard)",
                *(self.step, name, score.psnr, self.validation.bicubic[name], score.ssim),
            )
        if self.folder and scores:
            values = {f"{kind}/{name}": getattr(s, kind) for name, s in scores.items() for kind in ("psnr", "ssim")}
            values |= {f"bicubic/{name}": psnr for name, psnr in self.validation.bicubic.items()}
            self.folder.write("validation", self.step, values)
        self.validated = self.step
        if choosing is not None and self.checkpoints.is_best(choosing, self.step):
            self.checkpoints.save_best(self._state())  # which all ranks make together

    def _may_give_up(self) -> bool:
        return self.stop.signum is not None and self.processes.world == 1  # other ranks would wait for this one

    # ------------------------------------------------------------------ checkpoints

    def _is_saved(self) -> bool:
        return self.checkpoints.saved == (self.step, self.validated)

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
            "best": self.checkpoints.best_score,
        }

    def _resume(self, resume: str, allow_changes: bool) -> bool:
        """Takes over the newest valid checkpoint; False when ``auto`` finds none at all."""
        config = self.config
        if self.folder:
            remove_leftovers(self.folder.models)
        found = find_state(resume, config.run_folder)
        if found is None:
            return False
        path, state = found
        config = self.config = as_recorded(config, state["config"])
        refuse_changes(config, self.stream.manifest, state, path, allow_changes)
        with taken_over(path):
            try:
                self.model.load_state_dict(state["model"])
            except RuntimeError:
                raise ConfigError(
                    f"{path} holds another network than the config: start a new run, or undo the change"
                ) from None
            before = state["config"].get("optimizer", config.optimizer)
            if not load_optimizer_state(self.optimizer, config, state["optimizer"], before):
                log.warning("the optimizer differs from that of %s: its moments start from zero", path)
            if state["scaler"]:  # empty where the checkpoint's precision was not fp16
                self.scaler.load_state_dict(state["scaler"])
            if self.ema and state["ema"]:
                self.ema.load_state_dict(state["ema"])
            elif self.ema:  # ema_decay was 0: the average begins here
                self.ema.module.load_state_dict(state["model"])
            self.step, self.validated = state["step"], state["validated"]
            same_set = state["config"].get("validation_set") == config.validation_set
            self.checkpoints.goes_on(path, state, same_set)
            self.loss_log.restore(state)
        if self.step > self.schedule.total_steps:
            raise ConfigError(
                f"{path} is at step {self.step}, and the run would end at {self.schedule.total_steps}: raise "
                "max_iterations or epochs, or choose another log_name"
            )
        log.info("resumed at step %d from %s", self.step, path)
        return True

"""The learning rate, a pure function of the step, so that resuming cannot shift it."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate

from ssiu.config.schema import Config
from ssiu.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """How long a run is, and its learning rate at every step.

    ``samples_per_epoch`` = images * data_repeat. A step uses ``batch_size * accumulate`` samples; batches run on
    over the end of an epoch. With ``epochs`` the rate changes once an epoch, as in the release; with
    ``max_iterations`` the cosine runs over the steps. ``decays`` always fall on epochs, ``milestones`` and ``periods``
    on steps. A cosine of ``periods`` still ends at the step at which it is over: the next begins one later.

    Raises ConfigError (78) when the warm-up is not over before the end.
    """

    config: Config
    samples_per_epoch: int

    def __post_init__(self) -> None:
        warmup, most = self.config.warmup_epochs, self.config.max_iterations
        if most and warmup and self.steps_until_epoch(warmup) >= most:
            raise ConfigError(
                f"warmup_epochs {warmup} are {self.steps_until_epoch(warmup)} iterations and leave nothing of "
                f"max_iterations {most}: lower warmup_epochs or raise max_iterations"
            )
        if self.config.warmup_iterations >= self.total_steps:
            raise ConfigError(
                f"warmup_iterations {self.config.warmup_iterations} leave nothing of the run's {self.total_steps} "
                "iterations: lower them or train longer"
            )

    @property
    def samples_per_step(self) -> int:
        return self.config.batch_size * self.config.accumulate

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.config.max_iterations or self.steps_until_epoch(self.config.epochs)

    def steps_until_epoch(self, epoch: int) -> int:
        """Steps after which ``epoch`` epochs are complete."""
        return math.ceil(epoch * self.samples_per_epoch / self.samples_per_step)

    def epoch(self, step: int) -> int:
        """The epoch (from 0) that the first sample of ``step`` belongs to."""
        return step * self.samples_per_step // self.samples_per_epoch

    def learning_rate(self, step: int) -> float:
        """The rate used by ``step`` (from 0): warm-up, then as ``scheduler`` says."""
        config, epoch = self.config, self.epoch(step)
        if epoch < config.warmup_epochs:
            return config.lr * (epoch + 1) / config.warmup_epochs
        if step + 1 < config.warmup_iterations:
            return config.lr * (step + 1) / config.warmup_iterations
        if config.scheduler == "multistep":
            passed = bisect_right(config.decays, epoch) + bisect_right(config.milestones, step)
            return config.lr * config.gamma**passed
        if config.scheduler == "restarts":
            return self._restarted(step)
        if config.scheduler == "constant":
            return config.lr
        if config.max_iterations:
            now, start, end = step, self.steps_until_epoch(config.warmup_epochs), config.max_iterations
        else:
            now, start, end = epoch, config.warmup_epochs, config.epochs
        left = max(0.0, 1 - (now - start) / (end - start))  # of the run after the warm-up, from 1 to 0
        share = min(1.0, left / config.decay_share) if config.scheduler == "wsd" else (1 - math.cos(math.pi * left)) / 2
        return config.eta_min + (config.lr - config.eta_min) * share

    def _restarted(self, step: int) -> float:
        config = self.config
        ends = list(accumulate(config.periods))
        index = bisect_left(ends, step)
        if index == len(ends):
            return config.eta_min
        share = 1 - (ends[index] - step) / config.periods[index]  # of this cosine that is over
        height = (config.restart_weights or [1.0] * len(ends))[index] * (config.lr - config.eta_min)
        return config.eta_min + height * (1 + math.cos(math.pi * share)) / 2

    def validates(self, step: int) -> bool:
        """Whether a validation follows ``step`` completed steps; one always follows the last.

        The others come every ``validate_every`` steps, else every ``test_every`` epochs; ten in all, equally spaced,
        where ``max_iterations`` ends the run and ``validate_every`` is empty.
        """
        if step == 0 or not self.config.validates:
            return False
        return step == self.total_steps or self._regular_validations(step) > self._regular_validations(step - 1)

    def validations_after(self, step: int) -> int:
        """How many validations are still to come when ``step`` steps are complete and validated."""
        total = self.total_steps
        if step >= total or not self.config.validates:
            return 0
        return self._regular_validations(total - 1) - self._regular_validations(step) + 1  # that of the end

    def _regular_validations(self, step: int) -> int:
        """How many have come by ``step`` without the one that ends the run."""
        if every := self.config.validate_every:
            return step // every
        if total := self.config.max_iterations:
            return step * min(10, total) // total
        return self.epoch(step) // self.config.test_every

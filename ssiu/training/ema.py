"""The weights that are validated and used where they are not those that train: their moving average."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ssiu.config.schema import Config
from ssiu.models.base import SRNetwork
from ssiu.training.optimizers import averages_weights, use_averaged_weights, use_training_weights


class MovingAverage:
    """A copy of ``model`` whose parameters follow it: after step t they remember the last t/9 or so, so that the
    initial weights are forgotten, and ``1 / (1 - decay)`` in the long run. Without ``warmup`` the
    average begins with the initial weights, and its decay is ``decay`` always.

    `state_dict` is that of `torch.optim.swa_utils.AveragedModel`, which older checkpoints hold; unlike that, nothing
    here makes the host wait for the device.
    """

    def __init__(self, model: SRNetwork, decay: float, warmup: bool = True):
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.warmup = decay, warmup
        self.updates = 0

    def current(self) -> SRNetwork:
        """The network with the averaged weights."""
        return self.module

    @torch.no_grad()
    def update(self, model: SRNetwork, step: int) -> None:
        """Takes in the weights of ``model`` after ``step`` steps and one more.

        With ``warmup`` they are, the first time, all there is.
        """
        decay = self.decay
        if self.warmup:
            decay = min(decay, (1 + step) / (10 + step)) if self.updates else 0.0
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - decay)
        for own, now in zip(self.module.buffers(), model.buffers(), strict=True):  # batch norm's are averages already
            own.copy_(now)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name: the number of updates, and the averages."""
        averages = {f"module.{name}": tensor for name, tensor in self.current().state_dict().items()}
        return {"n_averaged": torch.tensor(self.updates), **averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.updates = int(state["n_averaged"])
        names = self.module.state_dict()
        self.module.load_state_dict({name: state[f"module.{name}"] for name in names})


class OptimizersAverage(MovingAverage):
    """The weights that a schedule-free optimizer averages itself, in the place of the moving average."""

    def __init__(self, model: SRNetwork, optimizer: torch.optim.Optimizer):
        super().__init__(model, decay=0.0)
        self._model, self._optimizer = model, optimizer

    def update(self, model: SRNetwork, step: int) -> None:
        """Counts one more step; the optimizer has averaged."""
        self.updates += 1

    @torch.no_grad()
    def current(self) -> SRNetwork:
        """The network as the optimizer evaluates it; what trains is afterwards what it was, to the last bit."""
        trained = [parameter.clone() for parameter in self._model.parameters()]
        use_averaged_weights(self._optimizer)
        self.module.load_state_dict(self._model.state_dict())
        use_training_weights(self._optimizer)
        torch._foreach_copy_(list(self._model.parameters()), trained)  # `train` computes them anew, and rounds
        return self.module


def moving_average(model: SRNetwork, optimizer: torch.optim.Optimizer, config: Config) -> MovingAverage | None:
    """The optimizer's own average, else the exponential one for an ``ema_decay`` above 0, else None."""
    if averages_weights(optimizer):
        return OptimizersAverage(model, optimizer)
    return MovingAverage(model, config.ema_decay, config.ema_warmup) if config.ema_decay else None

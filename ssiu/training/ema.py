"""The exponential moving average of the weights (EMA)."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of ``model`` whose parameters follow it: after step t they remember the last t/9 or so, so that the
    initial weights are forgotten, and ``1 / (1 - decay)`` in the long run.

    `state_dict` is that of `torch.optim.swa_utils.AveragedModel`, which older checkpoints hold; unlike that, nothing
    here makes the host wait for the device.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    def parameters(self) -> list[Tensor]:
        """The averaged tensors, in the order of the model's."""
        return list(self.module.parameters())

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights of ``model`` after ``step`` steps and one more; the first time they are all there is."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.updates else 0.0
        torch._foreach_lerp_(self.parameters(), list(model.parameters()), 1 - decay)
        for own, now in zip(self.module.buffers(), model.buffers(), strict=True):  # batch norm's are averages already
            own.copy_(now)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name: the number of updates, and the averages."""
        averages = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        return {"n_averaged": torch.tensor(self.updates), **averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.updates = int(state["n_averaged"])
        names = self.module.state_dict()
        self.module.load_state_dict({name: state[f"module.{name}"] for name in names})

"""What every network is, whoever wrote it: the contract that training, inference, evaluation and export rely on."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssiu.errors import ConfigError
from ssiu.models.layers import round_up


class SRNetwork(nn.Module):
    """A super-resolution network: LR (B, 3, H, W) in [0, 1] to SR (B, 3, scale H, scale W), not clamped; H, W >= 1.

    SSIU and IDSA-Net are such networks; a custom network (`ssiu.models.custom`) and an external one
    (`ssiu.weights.external`) are made one. docs/own_model.md is the same contract in words.

    Attributes, of a class or of a network:
        scale: upscaling factor.
        architecture: what tables and logs call it; its class unless said otherwise.
        config_name: what the key ``model`` of a config calls it, as weights record it; the same.
        size_multiple: tiles start and end at multiples of this, as the network's windows do.
        takes_tile_offset: whether it is called as ``network(lr, tile_offset)`` with a tile, see `SSIU.forward`.
        tail_prefixes: how the names of those parameters begin that differ between scales, for ``init_trunk``.
        dtypes: what it can be computed in beside float32.
        bytes_per_lr_pixel: memory that inference needs, for ``tile: auto``; SSIU's at x4 in float32 (x3 15,000, x2
            9,000) unless said otherwise.
        reentrant: whether several threads may run it at once.
    """

    size_multiple: int = 1
    takes_tile_offset: bool = False
    tail_prefixes: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16)
    bytes_per_lr_pixel: int = 20_000
    reentrant: bool = False

    def __init__(self, scale: int, values: Mapping[str, Any] | None = None):
        """``values``: the constructor's ``locals()``, of which `arguments` are kept."""
        super().__init__()
        self.scale = scale
        self.architecture = self.config_name = type(self).__name__
        names = inspect.signature(type(self)).parameters
        self._arguments = {name: value for name, value in (values or {}).items() if name in names}

    @property
    def core(self) -> nn.Module:
        """The network itself; where it was made one of these, what it was before."""
        return self

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that build this architecture again; none where only a file of weights can say them."""
        return dict(self._arguments)

    @classmethod
    def arguments_from(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The arguments read from the names and shapes of weights, or None where these are not this network's."""
        return None

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what the network computes on for an LR image of ``height`` and ``width``."""
        return round_up(height, self.size_multiple), round_up(width, self.size_multiple)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raises ConfigError (78) for an argument that is none of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value}")


def checkpoint_activations(network: SRNetwork) -> None:
    """Makes training of ``network`` need less memory and a third more time; gradients stay the same.

    Every stage, a module in a ``ModuleList`` of the network itself, keeps only its inputs and is recomputed in the
    backward pass.
    """
    for stage in _stages(network.core):
        stage.forward = partial(checkpoint, stage.forward, use_reentrant=False)  # type: ignore[method-assign]


def _stages(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from child

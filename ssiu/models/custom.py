"""A network of the user's own, outside this package: ``model: package.module:Class`` or ``FILE.py:Class``."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn

from ssiu.errors import ConfigError
from ssiu.models.base import SRNetwork
from ssiu.plugins import class_of, failure, find

PROBE = 32  # LR pixels: side of the image that a new network is tried on
MAY_SAY = ("size_multiple", "takes_tile_offset", "tail_prefixes", "dtypes", "bytes_per_lr_pixel", "reentrant")
EXPECTED = {bool: "True or False", int: "a whole number, 1 or more", tuple: "a tuple"}


class CustomNetwork(SRNetwork):
    """``network``, a module of the user's, under the contract: where it lacks an attribute, that has its default.

    Weights have the names that they have in ``network``.
    """

    def __init__(self, network: nn.Module, name: str, scale: int, arguments: Mapping[str, Any]):
        super().__init__(scale)
        self.network = network
        self.architecture = class_of(name)
        self.config_name = PurePath(name).name  # a file's folder is nobody else's business
        self._arguments = {"scale": scale, **arguments}
        for attribute in MAY_SAY:
            if hasattr(network, attribute):
                value, default = getattr(network, attribute), getattr(SRNetwork, attribute)
                if type(value) is not type(default) or (type(value) is int and value < 1):
                    expected = EXPECTED[type(default)]
                    raise ConfigError(f"model {name}: its {attribute} is {value!r:.80}; expected {expected}")
                setattr(self, attribute, value)

    @property
    def core(self) -> nn.Module:
        return self.network

    def forward(self, lr: Tensor, tile_offset: Tensor | None = None) -> Tensor:
        return self.network(lr) if tile_offset is None else self.network(lr, tile_offset)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.load_state_dict(*args, **kwargs)


def build_custom(model: str, scale: int, arguments: Mapping[str, Any]) -> CustomNetwork:
    """``Class(scale=scale, **arguments)`` of the class named ``model``, tried on a small image.

    Raises ConfigError (78), caused by the class's own error, when the class cannot be imported or built, when what is
    saved of it has a buffer that is not finite, or when it does not map (1, 3, H, W) to (1, 3, scale H, scale W).
    """
    kind = find("model", model, nn.Module)
    try:
        module = kind(scale=scale, **arguments)
    except Exception as error:
        what = f"cannot be built with scale={scale} and model_args {arguments}"
        raise failure("model", model, what, error) from error
    network = CustomNetwork(module, model, scale, arguments)
    kept = network.state_dict()
    for name, buffer in network.network.named_buffers():
        if name in kept and not buffer.isfinite().all():
            raise ConfigError(
                f"model {model}: its buffer '{name}' holds NaN or infinity, which is never saved: register it with "
                "persistent=False"
            )
    height, width = network.padded_size(PROBE, PROBE)
    network.eval()
    try:
        with torch.no_grad():
            shape = tuple(network(torch.zeros(1, 3, height, width)).shape)
    except Exception as error:
        raise failure("model", model, f"fails on an image (1, 3, {height}, {width})", error) from error
    if shape != (1, 3, scale * height, scale * width):
        raise ConfigError(
            f"model {model} makes {shape} of an image (1, 3, {height}, {width}); expected {scale} times its sides"
        )
    return network.train()

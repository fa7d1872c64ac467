"""A network of the user's own, outside this package: ``model: package.module:Class`` or ``FILE.py:Class``."""

from functools import partial
from typing import Any

import torch
from torch import nn

from ssiu.errors import ConfigError
from ssiu.models.layers import round_up
from ssiu.plugins import failure, find

PROBE = 32  # LR pixels: side of the image that a new network is tried on


def build_own_model(model: str, scale: int, arguments: dict[str, Any]) -> nn.Module:
    """``Class(scale=scale, **arguments)`` of the class named ``model``, tried on a small image.

    What it does not say itself is set: ``scale``, ``size_multiple`` 1, no ``tail_prefixes``, and ``arguments()``.
    Raises ConfigError (78), caused by the class's own error, when the class cannot be imported or built, when what is
    saved of it has a buffer that is not finite, or when it does not map (1, 3, H, W) to (1, 3, scale H, scale W).
    """
    kind = find("model", model, nn.Module)
    try:
        network = kind(scale=scale, **arguments)
    except Exception as error:
        raise failure(
            "model", model, f"cannot be built with scale={scale} and model_args {arguments}", error
        ) from error
    kept = network.state_dict()
    for name, buffer in network.named_buffers():
        if name in kept and not buffer.isfinite().all():
            raise ConfigError(
                f"model {model}: its buffer '{name}' holds NaN or infinity, which is never saved: register it with "
                "persistent=False"
            )
    known = {
        "scale": scale,
        "size_multiple": 1,
        "tail_prefixes": (),
        "arguments": partial(dict, scale=scale, **arguments),
    }
    for name, value in known.items():
        if not hasattr(network, name):
            setattr(network, name, value)
    side = round_up(PROBE, network.size_multiple)
    network.eval()
    try:
        with torch.no_grad():
            shape = tuple(network(torch.zeros(1, 3, side, side)).shape)
    except Exception as error:
        raise failure("model", model, f"fails on an image (1, 3, {side}, {side})", error) from error
    if shape != (1, 3, scale * side, scale * side):
        raise ConfigError(
            f"model {model} makes {shape} of an image (1, 3, {side}, {side}); expected {scale} times its sides"
        )
    return network.train()

"""A network of the user's own, outside this package: ``model: package.module:Class`` with ``model_args``.

This is the one place where a config makes Python import something, so such a name is taken from a ``--config`` file
or the command line only: never from weights, a checkpoint or what a run has saved beside it.
"""

import importlib
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssiu.errors import ConfigError
from ssiu.models.layers import round_up

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
PROBE = 32  # LR pixels: side of the image that a new network is tried on


def is_own(model: str) -> bool:
    """Whether ``model`` has the form ``package.module:Class``."""
    return NAME.fullmatch(model) is not None


def build_own_model(model: str, scale: int, arguments: dict[str, Any]) -> nn.Module:
    """``Class(scale=scale, **arguments)`` of ``package.module:Class``, tried on a small image.

    What it does not say itself is set: ``scale``, ``size_multiple`` 1, no ``tail_prefixes``, and ``arguments()``.
    Raises ConfigError (78), caused by the class's own error, when the class cannot be imported or built, when what is
    saved of it has a buffer that is not finite, or when it does not map (1, 3, H, W) to (1, 3, scale H, scale W).
    """
    kind = _find_class(model)
    try:
        network = kind(scale=scale, **arguments)
    except Exception as error:
        raise _failure(model, f"cannot be built with scale={scale} and model_args {arguments}", error) from error
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
        raise _failure(model, f"fails on an image (1, 3, {side}, {side})", error) from error
    if shape != (1, 3, scale * side, scale * side):
        raise ConfigError(
            f"model {model} makes {shape} of an image (1, 3, {side}, {side}); expected {scale} times its sides"
        )
    return network.train()


def _find_class(model: str) -> type[nn.Module]:
    module_name, _, class_name = model.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # the installed command does not look here, `python -m ssiu` does
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failure(model, "cannot be imported", error) from error
        raise ConfigError(
            f"model {model}: there is no module '{error.name}'; expected an installed package, or a file in {here}: "
            "run in the folder that holds it, or name that folder in PYTHONPATH"
        ) from None
    except Exception as error:
        raise _failure(model, "cannot be imported", error) from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ConfigError(f"model {model}: {module.__file__} has no torch.nn.Module called {class_name}")
    return kind


def _failure(model: str, what: str, error: Exception) -> ConfigError:
    reason = str(error).partition("\n")[0]
    return ConfigError(f"model {model} {what}: {type(error).__name__}: {reason}; --debug shows where")

"""A network of the user's own, outside this package: ``model: package.module:Class`` or ``FILE.py:Class``."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn

from ssiu.errors import ConfigError
from ssiu.models.base import SRNetwork
from ssiu.plugins import failure, find, label_of

PROBE = 64  # LR pixels: side of the image that a new network is tried on; some pad to that by reflection
MAY_SAY = ("size_multiple", "takes_tile_offset", "tail_prefixes", "dtypes", "bytes_per_lr_pixel", "reentrant")
EXPECTED = {bool: "True or False", int: "a whole number, 1 or more", tuple: "a tuple"}
SCALE_WORDS = ("scale", "upscale", "upscaling_factor", "upscale_factor", "scale_factor", "sf")
"""What constructors call the upscaling factor."""
OPTIONS = ("args", "opt")
"""What constructors call one object that holds all their arguments."""


class Options(dict[str, Any]):
    """Arguments in one object, read as ``args.n_feats`` and as ``opt["n_feats"]``."""

    __setattr__ = dict.__setitem__

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"it has no {name}, only {', '.join(self) or 'nothing'}")
        return self[name]


class CustomNetwork(SRNetwork):
    """``network``, a module of the user's, under the contract: where it lacks an attribute, that has its default.

    It is called in its own range, [0, ``rgb_range``], and with the scale where its ``forward`` asks for that. Weights
    have the names that they have in ``network``.
    """

    def __init__(self, network: nn.Module, name: str, scale: int, arguments: Mapping[str, Any], rgb_range: float = 1.0):
        super().__init__(scale)
        self.network, self.rgb_range = network, rgb_range
        self.architecture = label_of(name)
        self.config_name = PurePath(name).name  # a file's folder is nobody else's business
        self._arguments = {"scale": scale, **arguments}
        self._asks_scale = _asks_scale(network.forward)
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
        return self.through(self.network, lr, *(() if tile_offset is None else (tile_offset,)))

    def through(self, run: Callable[..., Tensor], lr: Tensor, *tile_offset: Tensor) -> Tensor:
        """``run``, the network or another form of it, on ``lr`` in [0, 1]."""
        rest = (self.scale, *tile_offset) if self._asks_scale else tile_offset
        return run(lr, *rest) if self.rgb_range == 1 else run(lr * self.rgb_range, *rest) / self.rgb_range

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.load_state_dict(*args, **kwargs)


def build_custom(model: str, scale: int, arguments: Mapping[str, Any], rgb_range: float = 1.0) -> CustomNetwork:
    """The class named ``model``, built with ``arguments`` and the scale, and tried on a small image.

    ``arguments`` named x2, x3 and x4 are those of one scale alone. Raises ConfigError (78), caused by the class's own
    error, when the class cannot be imported or built, when what is saved of it has a buffer that is not finite, or
    when it does not map (1, 3, H, W) to (1, 3, scale H, scale W).
    """
    kind = find("model", model, nn.Module)
    arguments = of_scale(arguments, scale)
    try:
        module = kind(**with_scale("model", model, kind, scale, arguments))
    except ConfigError:
        raise
    except Exception as error:
        what = f"cannot be built with scale={scale} and model_args {arguments}"
        raise failure("model", model, what, error) from error
    network = CustomNetwork(module, model, scale, arguments, rgb_range)
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


def of_scale(arguments: Mapping[str, Any], scale: int) -> dict[str, Any]:
    """``{width: 8, x2: {depth: 3}, x4: {depth: 5}}`` is ``{width: 8, depth: 5}`` at x4."""
    scales = {name: value for name, value in arguments.items() if name in ("x2", "x3", "x4") and type(value) is dict}
    return {name: value for name, value in arguments.items() if name not in scales} | scales.get(f"x{scale}", {})


def with_scale(
    key: str, name: str, kind: Callable[..., Any], scale: int, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """``arguments`` as the constructor ``kind`` takes them, with ``scale`` under its word unless they have that.

    ``key`` and ``name`` say in messages what is built. Raises ConfigError (78) where the scale may go by two words.
    """
    parameters = inspect.signature(kind).parameters
    taken = [word for word in SCALE_WORDS if word in parameters]
    given = {
        parameter: Options(value) if parameter in OPTIONS and isinstance(value, dict) else value
        for parameter, value in arguments.items()
    }
    if any(word in arguments for word in SCALE_WORDS):
        return given
    if len(taken) > 1:
        raise ConfigError(
            f"{key} {name} takes {' and '.join(taken)}: which is the upscaling factor? Give it in {key}_args, such as "
            f"{{{taken[0]}: {scale}}}"
        )
    if not taken and any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        taken = ["scale"]
    return given | dict.fromkeys(taken, scale)


def _asks_scale(forward: Callable[..., Any]) -> bool:
    """Whether it must be called as ``forward(lr, scale)``."""
    _, *others = inspect.signature(forward).parameters.values()
    return bool(others) and others[0].name in SCALE_WORDS and others[0].default is inspect.Parameter.empty

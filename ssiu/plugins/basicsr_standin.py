"""What files of networks and losses import of BasicSR, where BasicSR itself cannot be imported.

They take a decorator from it and a few helpers. These were written here from their names and how files call them.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import log2
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

ROOT = "basicsr"


def is_of_basicsr(error: BaseException) -> bool:
    """Whether an import failed because BasicSR is not there, or failed inside it."""
    frames = (frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(name).split(".")[0] == ROOT for name in (getattr(error, "name", None), *frames))


@contextmanager
def standing_in(folder: Path, package: str) -> Iterator[None]:
    """``basicsr`` is what is here, and its archs and losses have the files of ``folder``, too; then it is gone.

    An ``arch_util`` of ``folder`` that needs BasicSR is replaced in ``package``, whose modules are those files.
    """
    _forget()
    _add("", {}, [])
    _add(".utils", {"get_root_logger": _root_logger}, [])
    _add(".utils.registry", {f"{kind}_REGISTRY": Registry() for kind in ("ARCH", "DATASET", "LOSS", "METRIC", "MODEL")})
    _add(".archs", {}, [str(folder)])
    _add(".archs.arch_util", ARCH_UTIL)
    _add(".losses", {}, [str(folder)])
    beside = folder / "arch_util.py"
    if beside.is_file() and ROOT.encode() in beside.read_bytes():
        sys.modules[f"{package}.arch_util"] = sys.modules[f"{ROOT}.archs.arch_util"]
    try:
        yield
    finally:
        _forget()


def _add(name: str, contents: Mapping[str, Any], path: list[str] | None = None) -> None:
    """The module ``basicsr`` + ``name``; with a ``path`` it is a package, whose other modules are searched there."""
    module = ModuleType(ROOT + name)
    vars(module).update(contents)
    if path is not None:
        module.__path__ = path

    def absent(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise ImportError(
            f"BasicSR cannot be imported here, and what stands in for it has no {module.__name__}.{attribute}, only "
            f"{', '.join(sorted(ARCH_UTIL))} and the registries: put {attribute} into your own file"
        )

    module.__getattr__ = absent  # type: ignore[method-assign]
    sys.modules[module.__name__] = module
    above, _, last = module.__name__.rpartition(".")
    if above:
        setattr(sys.modules[above], last, module)


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == ROOT]:
        del sys.modules[name]


def _root_logger(*_: Any, **__: Any) -> logging.Logger:
    return logging.getLogger(ROOT)


class Registry:
    """``@ARCH_REGISTRY.register()`` leaves a class as it is."""

    def register(self, kind: Any = None, **_: Any) -> Any:
        return (lambda decorated: decorated) if kind is None else kind


def to_2tuple(value: Any) -> Any:
    """(value, value); what is iterable is taken for such a pair."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value, value)


def make_layer(block: Callable[..., nn.Module], number: int, **arguments: Any) -> nn.Sequential:
    """``number`` blocks one after another."""
    return nn.Sequential(*(block(**arguments) for _ in range(number)))


def default_init_weights(
    modules: nn.Module | list[nn.Module], scale: float = 1, bias_fill: float = 0, **how: Any
) -> None:
    """He's initialisation times ``scale`` of convolutions and linear layers; normalisations begin as the identity."""
    for module in modules if isinstance(modules, list) else [modules]:
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, **how)
                layer.weight.data.mul_(scale)
            elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
                nn.init.ones_(layer.weight)
            else:
                continue
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias_fill)


def pixel_unshuffle(x: Tensor, scale: int) -> Tensor:
    """(B, C, sH, sW) to (B, C s^2, H, W)."""
    return functional.pixel_unshuffle(x, scale)


class ResidualBlockNoBN(nn.Module):
    """EDSR's block: x + res_scale * conv(relu(conv(x))), (B, C, H, W) to the same."""

    def __init__(self, num_feat: int = 64, res_scale: float = 1, pytorch_init: bool = False):
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        if not pytorch_init:
            default_init_weights([self.conv1, self.conv2], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.conv2(functional.relu(self.conv1(x)))


class Upsample(nn.Sequential):
    """A 3x3 convolution and a PixelShuffle: once by 3, or by 2 until 2, 4 or 8 is reached."""

    def __init__(self, scale: int, num_feat: int):
        steps = [3] if scale == 3 else [2] * int(log2(scale))
        if scale != 3 and 2 ** len(steps) != scale:
            raise ValueError(f"Upsample: expected 3 or a power of 2, got {scale}")
        layers: list[nn.Module] = []
        for step in steps:
            layers += [nn.Conv2d(num_feat, step**2 * num_feat, 3, padding=1), nn.PixelShuffle(step)]
        super().__init__(*layers)


ARCH_UTIL = {
    "trunc_normal_": nn.init.trunc_normal_,
    **{each.__name__: each for each in (to_2tuple, make_layer, default_init_weights, pixel_unshuffle)},
    **{each.__name__: each for each in (ResidualBlockNoBN, Upsample)},
}

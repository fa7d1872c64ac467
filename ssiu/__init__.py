"""SSIU for lightweight image super-resolution.

>>> import ssiu
>>> model = ssiu.load_model("SSIU_x2.safetensors", device="cuda")
>>> larger = ssiu.upscale(model, image)  # an array or a Pillow image; `ssiu.Upscaler` serves many images better

`load_config` and `build_model` make the network of a YAML config, `evaluate` scores one on test sets.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssiu.config_reading import load_config
    from ssiu.evaluation.evaluate import evaluate
    from ssiu.models import build_model
    from ssiu.upscaling.upscaler import Upscaler, upscale
    from ssiu.weights import load_model

__all__ = ["Upscaler", "build_model", "evaluate", "load_config", "load_model", "upscale"]

_MODULES = {
    "Upscaler": "ssiu.upscaling.upscaler",
    "build_model": "ssiu.models",
    "evaluate": "ssiu.evaluation.evaluate",
    "load_config": "ssiu.config_reading",
    "load_model": "ssiu.weights",
    "upscale": "ssiu.upscaling.upscaler",
}


def __getattr__(name: str) -> Any:
    """Loads the API on first use: ``import ssiu`` does not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'ssiu' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""SSIU for lightweight image super-resolution.

>>> import ssiu
>>> model = ssiu.load_model("SSIU_x2.safetensors", device="cuda")
>>> larger = ssiu.upscale(model, image)  # an array or a Pillow image; `ssiu.Upscaler` serves many images better

`load_config` and `build_model` make the network of a YAML config, `evaluate` scores one on test sets, `psnr` and `ssim`
score an image.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssiu.config.load import load_config
    from ssiu.evaluation.evaluate import evaluate
    from ssiu.evaluation.metrics import psnr, ssim
    from ssiu.inference.upscaler import Upscaler, upscale
    from ssiu.models import build_model
    from ssiu.weights.load import load_model

__version__ = "0.2.0"

__all__ = ["Upscaler", "__version__", "build_model", "evaluate", "load_config", "load_model", "psnr", "ssim", "upscale"]

_MODULES = {
    "Upscaler": "ssiu.inference.upscaler",
    "build_model": "ssiu.models",
    "evaluate": "ssiu.evaluation.evaluate",
    "load_config": "ssiu.config.load",
    "load_model": "ssiu.weights.load",
    "psnr": "ssiu.evaluation.metrics",
    "ssim": "ssiu.evaluation.metrics",
    "upscale": "ssiu.inference.upscaler",
}


def __getattr__(name: str) -> Any:
    """Loads the API on first use: ``import ssiu`` does not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'ssiu' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

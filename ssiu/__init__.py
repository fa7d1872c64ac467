"""SSIU for lightweight image super-resolution: ``load_config``, ``build_model``, ``load_model`` and ``upscale``.

>>> import ssiu
>>> model = ssiu.load_model("SSIU_x2.safetensors", device="cuda")
>>> larger = ssiu.upscale(model, picture)  # an array or a Pillow image
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssiu.config import load_config
    from ssiu.models import build_model
    from ssiu.upscaling import upscale
    from ssiu.weights import load_model

__all__ = ["build_model", "load_config", "load_model", "upscale"]


def __getattr__(name: str) -> Any:
    """Loads the API on first use: ``import ssiu`` does not wait for torch."""
    if name == "load_config":
        from ssiu.config import load_config as found
    elif name == "build_model":
        from ssiu.models import build_model as found
    elif name == "load_model":
        from ssiu.weights import load_model as found
    elif name == "upscale":
        from ssiu.upscaling import upscale as found
    else:
        raise AttributeError(f"module 'ssiu' has no attribute '{name}'")
    return found

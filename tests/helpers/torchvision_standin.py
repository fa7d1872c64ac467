"""What spandrel imports of torchvision, which does not load beside the CPU build of torch; no SR network calls it."""

import sys
from types import ModuleType


def stand_in() -> None:
    """Puts the modules in place where the real ones do not import."""
    try:
        import torchvision  # noqa: F401
    except Exception:  # absent, or built for another torch
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = ModuleType(name)
        functional = sys.modules["torchvision.transforms.functional"]
        functional.InterpolationMode = functional.rotate = functional.normalize = None

"""spandrel for tests, with a stand-in for torchvision, which it imports and no super-resolution network calls.

PyPI's torchvision does not load beside the CPU build of torch.
"""

import sys
from types import ModuleType

import pytest


def stand_in() -> None:
    """Puts the modules in place where the real ones do not import."""
    try:
        import torchvision  # noqa: F401
    except Exception:  # absent, or built for another torch
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = ModuleType(name)
        functional = sys.modules["torchvision.transforms.functional"]
        functional.InterpolationMode = functional.rotate = functional.normalize = None


def require_spandrel() -> ModuleType:
    """spandrel; the tests of a file that asks for it are skipped where it is not installed."""
    stand_in()
    return pytest.importorskip("spandrel", reason="spandrel is not installed: scripts/run_tests.sh installs it")

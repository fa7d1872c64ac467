"""The stand-in of the hub, known to huggingface_hub as HF_ENDPOINT."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hub_server import Hub


@contextmanager
def hub_at_work(home: Path) -> Iterator[Hub]:
    """``home`` is HF_HOME: the cache, which is empty at first, and the user's token."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install huggingface_hub")
    hub = Hub()
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            patched.delitem(sys.modules, name)  # it reads the environment when it is imported
        patched.setenv("HF_ENDPOINT", hub.url)
        patched.setenv("HF_HOME", str(home))
        for variable in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
            patched.delenv(variable, raising=False)
        try:
            yield hub
        finally:
            hub.unplug()
            for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
                del sys.modules[name]

"""Fixtures shared by all tests: where the golden numbers and the photographs are, and a real browser."""

import gc
import logging
import os
import shutil

# Before torch is imported: tests fork, and a child of a process that has used several OpenMP threads hangs in them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["COLUMNS"] = "120"  # as without a terminal; pytest-xdist says 80, where tables are broken

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
REFERENCE = Path(__file__).parent / "reference"

# A fork must not clean up what it inherited: an ONNX session in a cycle waits there for threads that it has not.
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=gc.freeze)


def pytest_configure(config: pytest.Config) -> None:
    """Hides GPUs: tests compare with the CPU's numbers, and several ranks cannot share one. -m gpu is its own call."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: none of them is left to one process when the others have finished."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _every_test_starts_with_a_log_that_nobody_reads() -> Iterator[None]:
    """A run that another test left open would get these lines into its file, and the console none of them."""
    logger = logging.getLogger("ssiu")
    before, logger.handlers = logger.handlers, []
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers = before


@pytest.fixture(autouse=True)
def _deterministic_algorithms_are_for_one_test() -> Iterator[None]:
    """A test that trains or scores with them would choose the operators of all that come after it."""
    yield
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with ``data`` (photographs, benchmark sets) and ``reference`` (large golden files)."""
    folder = os.environ.get("SSIU_TEST_DATA")
    if not folder:
        pytest.skip("SSIU_TEST_DATA is not set: it names the folder with data/benchmark and reference")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def reference() -> Path:
    """The small golden files that travel with the repository."""
    return REFERENCE


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()

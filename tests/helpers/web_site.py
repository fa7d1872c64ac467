"""The page of `ssiu export web` with small networks, for tests: exported once, served, opened in chromium."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from ssiu.download.http import fetch
from ssiu.errors import BusyError
from ssiu.files import user_cache_folder
from ssiu.images.decoding import DecodedImage
from ssiu.images.io import read_image
from ssiu.inference.prepare import prepare
from ssiu.web import site as web_page
from ssiu.web.site import RUNTIME, export_web

PIXELS = 13_000  # LR pixels at once: images with more become tiles
LONGEST = 120_000  # ms, on a busy machine
Page = Any  # of Playwright, which need not be there


def export_site(folder: Path, networks: dict[str, nn.Module], home: Path) -> Path:
    """The page with ``networks``, which does no more than `PIXELS` at once; ``home`` keeps them for other exports."""
    kept = user_cache_folder("web") / Path(RUNTIME.url).name
    try:
        fetch(RUNTIME, kept)
    except BusyError as error:
        pytest.skip(f"no ONNX Runtime for browsers: {error}")
    cache = home / "ssiu/web"
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy(kept, cache)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(home))
        patched.setattr(web_page, "MEMORY", PIXELS * prepare(next(iter(networks.values()))).bytes_per_lr_pixel)
        export_web(folder, networks)
    return folder


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """``server`` at work; its address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def plain_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A host that sends files and no headers of its own, as project pages are."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=folder))


def start(page: Page, image: Path, scale: int = 2) -> None:
    page.locator(f"[name=scale][value='{scale}']").check()
    page.locator("#file").set_input_files(image)


def wait_for(page: Page, status: str) -> None:
    page.locator("#status", has_text=status).wait_for()
    assert not page.locator("#problem").is_visible(), page.locator("#problem").inner_text()


def upscaled(page: Page, image: Path, scale: int = 2) -> DecodedImage:
    """What the page gives to download."""
    start(page, image, scale)
    wait_for(page, f"{image.name} is ready")
    return downloaded(page, f"{image.stem}_x{scale}.png", image.parent / "page.png")


def downloaded(page: Page, name: str, to: Path) -> DecodedImage:
    with page.expect_download() as download:
        page.locator("a[download]").click()
    assert download.value.suggested_filename == name
    download.value.save_as(to)
    return read_image(to)


def assert_same(ours: np.ndarray, expected: np.ndarray) -> None:
    assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
    level = 1 if ours.dtype == np.uint8 else 257
    different = np.abs(ours.astype(int) - expected) > level
    assert different.mean() < 1e-3


def problem(page: Page) -> str:
    page.locator("#problem:not(:empty)").wait_for()
    return page.locator("#problem").inner_text()

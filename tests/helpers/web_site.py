"""The page of `ssiu export web` with small networks, for tests: exported once, served, opened in chromium."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torch import nn

from ssiu.data.download import fetch
from ssiu.errors import BusyError
from ssiu.files import user_cache_folder
from ssiu.report import web_page
from ssiu.report.web_page import CONNECTION, RUNTIME, export_web

PIXELS = 13_000  # LR pixels at once: images with more become tiles


def export_site(folder: Path, networks: list[nn.Module]) -> Path:
    """The page with ``networks``, which does no more than `PIXELS` at once; only the fetched runtime is kept."""
    kept = user_cache_folder("web") / Path(RUNTIME.url).name
    try:
        fetch(RUNTIME, kept, CONNECTION)
    except BusyError as error:
        pytest.skip(f"no ONNX Runtime for browsers: {error}")
    cache = folder.parent / "cache/ssiu/web"
    cache.mkdir(parents=True)
    shutil.copy(kept, cache)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
        patched.setattr(web_page, "MEMORY", PIXELS * web_page.Network.prepared(networks[0]).bytes_per_lr_pixel)
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

"""The page that upscales an image in the visitor's browser: a folder of files for any static host.

The page itself is in ``web/`` beside this file. Two things take long and are kept in the user's cache: ONNX Runtime for
browsers, fetched from its npm package, and the networks as ONNX.
"""

import contextlib
import hashlib
import inspect
import json
import logging
import shutil
import time
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

import torch

from ssiu.data.catalog import Source
from ssiu.download.http import fetch
from ssiu.download.unpack import unpack
from ssiu.errors import BusyError, OutputError
from ssiu.export import onnx
from ssiu.export.one_file import network_source
from ssiu.files import contents, held, make_folder, remove_leftovers, user_cache_folder, write_atomically
from ssiu.inference.prepare import prepare
from ssiu.inference.tiles import MARGIN
from ssiu.models.base import SRNetwork
from ssiu.progress import Progress
from ssiu.report.pages import render, source
from ssiu.weights.checkpoint import tensors_digest

log = logging.getLogger("ssiu")

RUNTIME = Source(
    url="https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz",
    about=33_106_585,
    digest="sha256:d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
)
RUNTIME_FILES = {  # of the package -> of the folder; .mjs becomes .js, which every host sends as JavaScript
    "ort.wasm.min.mjs": "ort.wasm.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs": "ort.webgpu.js",
    "ort-wasm-simd-threaded.asyncify.mjs": "ort-wasm-simd-threaded.asyncify.js",
    "ort-wasm-simd-threaded.asyncify.wasm": "ort-wasm-simd-threaded.asyncify.wasm",
}
MEMORY = 1_000_000_000  # bytes that a tile may take: WebAssembly has at most four times as much
SETTINGS = "models.json"  # what the page must know of the networks; it marks a folder of an earlier export
HEADERS = {  # the first two allow threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
}
MEDIA_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".wasm": "application/wasm",
    ".json": "application/json",
    "": "application/octet-stream",
}


def export_web(folder: Path, networks: Mapping[str, SRNetwork]) -> list[Path]:
    """Writes the page with ``networks`` (name of the weights -> one a scale) into ``folder``; returns its files.

    Those of an earlier export are replaced, and what else lies beside them stays. A second export at once waits for the
    first. Raises OutputError (73) for a folder with files that is not of an earlier export, BusyError (75) where the
    runtime cannot be fetched, BadInputError (65) where something else than the runtime was sent, SaveError (74).
    """
    if contents(folder) and not _is_of_an_export(folder / SETTINGS):
        raise OutputError(f"{folder} holds other files; name an empty or a new folder")
    make_folder(folder)
    cache = make_folder(user_cache_folder("web"))
    with held(cache / "lock", cache, "waiting for another `ssiu export web`", "XDG_CACHE_HOME", patience=None):
        remove_leftovers(cache)
        remove_leftovers(folder)
        runtime, models = _runtime(cache), {}
        with Progress(total=len(networks), desc="exporting", unit="networks", leave=False) as bar:
            for name, network in networks.items():
                bar.set_postfix_str(f"x{network.scale}")
                models[name] = _model(cache, network)
                bar.update()
        content = _content(runtime, networks, models)
        make_folder(folder / "runtime")
        for name, data in content.items():
            write_atomically(folder / name, data)
    return [folder / name for name in content]


def _is_of_an_export(settings: Path) -> bool:
    """Whether this `SETTINGS` is ours: other sites may have a file of that name."""
    try:
        found = json.loads(settings.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"version", "margin", "models"} <= found.keys()


def _content(
    runtime: dict[str, bytes], networks: Mapping[str, SRNetwork], models: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The files of the folder by name, `SETTINGS` first.

    A model's address ends in its digest, so that no cache on the way gives out that of an earlier export.
    """
    names = [path.name for path in files("ssiu.web").iterdir() if path.name.endswith((".css", ".js"))]
    page = {name: source(f"web/{name}").encode() for name in sorted(names)}
    page |= {name: source(f"report/{name}").encode() for name in ("base.css", "slider.css", "slider.js")}
    page["index.html"] = render("web/index.html")
    worker = page.pop("sw.js")
    content = page | runtime
    known = {}
    for weights, network in networks.items():
        name = f"{network.architecture}_x{network.scale}.onnx"
        content[name] = models[weights]
        known[network.scale] = {
            "file": f"{name}?{hashlib.sha256(models[weights]).hexdigest()[:16]}",
            "weights": f"{weights}, sha256 {tensors_digest(network.state_dict())[:12]}",
            "multiple": network.size_multiple,
            "pixels": MEMORY // prepare(network).bytes_per_lr_pixel,
        }
    settings = {"margin": MARGIN, "models": known}
    digest = hashlib.sha256(repr((settings, worker)).encode())
    for name, data in sorted(content.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    version = digest.hexdigest()[:16]
    kept = ["./", SETTINGS, *sorted(page.keys() - {"index.html"})]
    content["sw.js"] = render("web/sw.js", version=version, files=kept)
    return {SETTINGS: (json.dumps({"version": version, **settings}, indent=2) + "\n").encode()} | content


def _model(cache: Path, network: SRNetwork) -> bytes:
    """``network`` as ONNX, from ``cache`` where it was exported before by the same code."""
    made_of = (tensors_digest(network.state_dict()), network.arguments(), network_source(), inspect.getsource(onnx))
    recipe = hashlib.sha256(repr((*made_of, torch.__version__)).encode()).hexdigest()[:16]
    path = cache / f"{recipe}.onnx"
    if not path.is_file():
        log.info("x%d: exporting the graph and comparing its output takes a minute or two ...", network.scale)
        began = time.monotonic()
        onnx.export_onnx(network, path, tiles=True)
        log.info("x%d: exported in %.0f s, kept in %s", network.scale, time.monotonic() - began, cache)
    return path.read_bytes()


def _runtime(cache: Path) -> dict[str, bytes]:
    """The files of ONNX Runtime for browsers, by their name in the folder; see `fetch` for what it raises."""
    package, unpacked = cache / RUNTIME.url.rpartition("/")[2], cache / "unpacked"
    try:
        fetch(RUNTIME, package)
    except BusyError as error:
        raise BusyError(f"{error}; it is needed once and then kept in {cache}") from None
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        unpack(package, {f"dist/{name}": unpacked for name in RUNTIME_FILES})
        return {f"runtime/{name}": (unpacked / packed).read_bytes() for packed, name in RUNTIME_FILES.items()}
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def page_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of ``folder`` on the loopback address. Raises BusyError (75) where the port is taken."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=folder))
    except OSError as error:
        raise BusyError(f"cannot serve on port {port}: {error.strerror}; choose another one with --port") from None


class _Handler(SimpleHTTPRequestHandler):
    """Sends files as what they are, whatever this system's own list says, without a line for each."""

    extensions_map = MEDIA_TYPES

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a browser may leave at any time
            super().handle()

    def send_head(self) -> BinaryIO | None:
        try:
            return super().send_head()
        except ValueError:  # NUL or half a surrogate pair in the name
            self.send_error(HTTPStatus.NOT_FOUND)
            return None

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        pass

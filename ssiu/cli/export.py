"""Converts weights.

ssiu export onnx pretrain_model/SSIU_x4.safetensors x4.onnx
ssiu export safetensors model_x4_290.pt SSIU_x4.safetensors
ssiu export web page             a page that upscales images in the browser; web --serve shows it here
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ssiu.cli.console import command_parser, log_to_console
from ssiu.config import load_config
from ssiu.errors import BadInputError
from ssiu.export.onnx import CHECKED_SIZES, export_onnx, export_pt2
from ssiu.export.plugins import export_comfyui, export_spandrel
from ssiu.files import nonempty_path
from ssiu.peers import Peer
from ssiu.report.web_page import export_web, page_server
from ssiu.weights import (
    load_configured,
    load_model,
    load_weights,
    read_weights,
    save_authors_weights,
    save_weights,
    tensors_digest,
)


def to_safetensors(network: nn.Module, source: Path, target: Path) -> str:
    save_weights(target, network, read_weights(source).metadata)
    return _tensors(network, target)


def to_authors_pt(network: nn.Module, source: Path, target: Path) -> str:
    save_authors_weights(target, network)
    return _tensors(network, target)


def to_onnx(network: nn.Module, source: Path, target: Path, tiles: bool = False) -> str:
    return _checked(network, export_onnx(network, target, tiles))


def to_pt2(network: nn.Module, source: Path, target: Path) -> str:
    return _checked(network, export_pt2(network, target))


def _checked(network: nn.Module, difference: float) -> str:
    """What was exported and how well it agrees with ``network``."""
    sizes = ", ".join(f"{width}x{height}" for height, width in CHECKED_SIZES)
    return f"{type(network).__name__} x{network.scale}, within {difference:.1g} of the network at {sizes}"


def _tensors(network: nn.Module, path: Path) -> str:
    """What stands in the file just written, read back."""
    load_weights(network, path)
    tensors = network.state_dict()
    return f"{type(network).__name__} x{network.scale}, {len(tensors)} tensors, sha256 {tensors_digest(tensors)}"


def port_number(text: str) -> int:
    port = int(text)
    if not 0 <= port < 2**16:
        raise ValueError
    return port


def web(target: Path | None, serve: bool, port: int) -> None:
    """Writes the page; with ``serve`` also shows it, until Ctrl-C. Without ``target`` it is gone then."""
    log_to_console()
    networks = [load_model(scale) for scale in (2, 3, 4)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = target or Path(temporary)
        written = export_web(folder, networks)
        if target:
            size = sum(path.stat().st_size for path in written) / 1e6
            print(f"wrote {target}: {len(written)} files, {size:.0f} MB; put the folder on any static host")
        if serve:
            with page_server(folder, port) as server:
                print(f"http://127.0.0.1:{server.server_port}/ shows the page until Ctrl-C", flush=True)
                server.serve_forever()


def main(argv: Sequence[str]) -> None:
    parser = command_parser("export", __doc__)
    formats = parser.add_subparsers(required=True, metavar="FORMAT")
    for name, convert, summary in (
        ("safetensors", to_safetensors, "this project's released weights"),
        ("authors", to_authors_pt, "the authors' .pt, which their test.py loads"),
        ("onnx", to_onnx, "a network for other programs; ssiu upscale --weights takes it too"),
        ("pt2", to_pt2, "a network for torch.export.load, which needs PyTorch alone"),
    ):
        command = formats.add_parser(name, help=summary, description=summary)
        command.add_argument("source", type=Path, help="weights in any format, or a training checkpoint of ours")
        command.add_argument("target", type=Path, help="the file to write")
        command.add_argument("--config", metavar="FILE", help="names a model of your own (docs/own_model.md)")
        command.set_defaults(convert=convert, name=name)
        if name == "onnx":
            command.add_argument(
                "--tiles",
                action="store_true",
                help="a second input, place, four int32: top and left of a tile, height and width of its image, in LR "
                "pixels; tiles then equal the whole image",
            )
    for name, write, summary, use in (
        ("comfyui", export_comfyui, "a custom node folder for ComfyUI", "put it into ComfyUI's custom_nodes"),
        ("spandrel", export_spandrel, "what a pull request to spandrel adds", "its README.md says what to do with it"),
    ):
        command = formats.add_parser(name, help=summary, description=summary)
        command.add_argument("target", type=Path, metavar="DIR", help="the folder to make")
        command.set_defaults(folder=write, use=use)
    summary = "a page that upscales images in the browser, for any static host"
    page = formats.add_parser("web", help=summary, description=summary)
    page.add_argument("target", type=nonempty_path, nargs="?", metavar="DIR", help="the folder to make")
    page.add_argument("--serve", action="store_true", help="show the page on this machine; DIR may be left out")
    page.add_argument("--port", type=port_number, default=8000, help="where --serve shows it (default: 8000)")
    page.set_defaults(web=True)
    arguments = parser.parse_args(argv)
    if "web" in arguments:
        if not arguments.target and not arguments.serve:
            page.error("name the folder to make, or --serve")
        web(arguments.target, arguments.serve, arguments.port)
        return
    if "folder" in arguments:
        files = arguments.folder(arguments.target)
        print(f"wrote {arguments.target}: {len(files)} files; {arguments.use}")
        return
    source, target = arguments.source, arguments.target
    network = load_configured(load_config(arguments.config), source) if arguments.config else load_model(source)
    if isinstance(network, Peer):
        raise BadInputError(
            f"{source} holds {network.architecture}, another method's network; export takes this package's"
        )
    if arguments.name in ("onnx", "pt2"):
        print("exporting the graph and comparing its output takes about a minute ...", flush=True)
    options = {"tiles": arguments.tiles} if "tiles" in arguments else {}
    print(f"wrote {target}: {arguments.convert(network, source, target, **options)}")

"""Converts weights.

ssiu export onnx pretrain_model/SSIU_x4.safetensors x4.onnx
ssiu export safetensors model_x4_290.pt SSIU_x4.safetensors
ssiu export onnx last.pt mine.onnx model=my_net.py:MyNet scale=2       a model of your own
ssiu export hub SSIU_x4.safetensors folder --push owner/name     weights with a card, for the Hugging Face Hub
ssiu export web page             a page that upscales images in the browser; web --serve shows it here
"""

import tempfile
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from ssiu.cli.console import command_parser, without_model
from ssiu.config.load import load_config
from ssiu.errors import BadInputError
from ssiu.export.comfyui import export_comfyui, export_spandrel
from ssiu.export.folder import write_folder
from ssiu.export.hub import SAMPLES, export_hub, push
from ssiu.export.onnx import CHECKED_SIZES, PRECISIONS, export_onnx, export_pt2, smallest_side
from ssiu.files import docs_page, make_folder, nonempty_path
from ssiu.models.base import SRNetwork
from ssiu.progress import log_to_console
from ssiu.report.cards import card, computed, hub_card, openmodeldb, scores_of
from ssiu.web.site import export_web, page_server
from ssiu.weights.checkpoint import tensors_digest
from ssiu.weights.external import ExternalNetwork
from ssiu.weights.formats import (
    encode_weights,
    read_weights,
    save_authors_weights,
    save_basicsr_weights,
    save_weights,
    target_file,
)
from ssiu.weights.hub import USUAL, local_file, plain_name
from ssiu.weights.load import find_weights, load_configured, load_model, load_weights, network_of
from ssiu.weights.zoo import Described, read_zoo


def to_safetensors(network: SRNetwork, arguments: Namespace) -> str:
    save_weights(arguments.target, network, arguments.weights.metadata)
    return _tensors(network, arguments.target)


def to_authors_pt(network: SRNetwork, arguments: Namespace) -> str:
    save_authors_weights(arguments.target, network)
    return _tensors(network, arguments.target)


def to_basicsr(network: SRNetwork, arguments: Namespace) -> str:
    trained = arguments.weights.trained
    save_basicsr_weights(arguments.target, network, trained)
    return f"params{' and params_ema' if trained else ''}, {_tensors(network, arguments.target)}"


def to_onnx(network: SRNetwork, arguments: Namespace) -> str:
    return _checked(network, export_onnx, arguments.target, arguments.tiles, arguments.precision)


def to_pt2(network: SRNetwork, arguments: Namespace) -> str:
    return _checked(network, export_pt2, arguments.target)


def _tensors(network: SRNetwork, path: Path) -> str:
    """What stands in the file just written, read back."""
    load_weights(network, path)
    tensors = network.state_dict()
    return f"{network.architecture} x{network.scale}, {len(tensors)} tensors, sha256 {tensors_digest(tensors)}"


def _checked(network: SRNetwork, export: Callable[..., float], *arguments: Path | bool | str) -> str:
    """What was exported and how well it agrees with ``network``."""
    print("exporting the graph and comparing its output takes a minute or two ...", flush=True)
    difference = export(network, *arguments)
    least = smallest_side(network)
    sizes = ", ".join(f"{max(width, least)}x{max(height, least)}" for height, width in CHECKED_SIZES)
    return f"{network.architecture} x{network.scale}, within {difference:.1g} of the network at {sizes}"


def convert(arguments: Namespace) -> None:
    """One file of weights to another."""
    source, config = arguments.source, arguments.config
    target_file(arguments.target, arguments.suffix)
    arguments.weights = weights = read_weights(source)  # once: a training run may replace the file meanwhile
    own = load_config(config, arguments.model_keys) if config or arguments.model_keys else None
    network = load_configured(own, weights) if own else network_of(weights)
    if isinstance(network, ExternalNetwork):
        raise _of_another_method(source, network)
    make_folder(arguments.target.parent)
    print(f"wrote {arguments.target}: {arguments.to(network, arguments)}")


def _of_another_method(source: Path, network: ExternalNetwork) -> BadInputError:
    return BadInputError(
        f"{source} holds {network.architecture}, another method's network; only this package's networks can be exported"
    )


def make_hub_folder(arguments: Namespace) -> None:
    """Weights with their card; what the zoo does not say of them is taken from the command line."""
    weights, folder = read_weights(arguments.source), arguments.target
    network = network_of(weights)
    if isinstance(network, ExternalNetwork):
        raise _of_another_method(arguments.source, network)
    content, sha256 = encode_weights(network, weights.metadata)
    if weights.metadata.get("sha256") == sha256:  # a file of ours already
        content = local_file(weights.path).read_bytes()
    _, zoo = read_zoo()
    known = zoo.of_tensors(sha256) or Described(file=f"{plain_name(weights.path)}.safetensors")
    said = {"licence": arguments.license, "data": dict.fromkeys(arguments.dataset, 0)}
    said |= {"scores": scores_of(arguments.scores, sha256)}
    update = computed(network, content, sha256) | {key: value for key, value in said.items() if value}
    described = known.model_copy(update=update)
    repository = arguments.push or f"OWNER/{described.name}"
    parent = described.from_weights and f"{repository.partition('/')[0]}/{Path(described.from_weights).stem}"
    body = card(described, zoo.data_sets, zoo.data_remark if known.data else "", zoo.bicubic.get(network.scale, {}))
    text = hub_card(described, body, repository, arguments.base_model or parent, SAMPLES)
    files = export_hub(folder, network, content, sha256, text)
    print(f"wrote {folder}: {len(files)} files")
    for key, option in {"licence": "--license ID", "scores": "--scores JSON", "data": "--dataset NAME"}.items():
        if not getattr(described, key):
            print(f"the card does not name the {key}: {option}")
    if arguments.push:
        print(f"pushed: {push(folder, files, repository)}")


def make_openmodeldb(arguments: Namespace) -> None:
    """A file for each of the shipped weights."""
    base = f"https://huggingface.co/{arguments.owner}"
    files = [
        openmodeldb(each, arguments.author or arguments.owner, f"{base}/{each.name}/resolve/main/{USUAL}")
        for each in read_zoo()[1].weights
    ]
    write_folder(arguments.target, dict(files))
    print(f"wrote {arguments.target}: {len(files)} files for data/models; add the author to data/users.json, and")
    print("ssiu and idsanet to data/architectures.json")


def make_plugin(arguments: Namespace) -> None:
    """A folder of source files for another program."""
    files = arguments.write(arguments.target)
    print(f"wrote {arguments.target}: {len(files)} files; {arguments.use}")


def make_page(arguments: Namespace) -> None:
    """Writes the page; with ``--serve`` also shows it, until Ctrl-C. Without a folder it is gone then."""
    if not arguments.target and not arguments.serve:
        arguments.error("name the folder to make, or --serve")
    log_to_console()
    files = [find_weights("SSIU", scale) for scale in (2, 3, 4)]
    networks = {file.name: load_model(file) for file in files}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.target or Path(temporary)
        written = export_web(folder, networks)
        if arguments.target:
            size = sum(path.stat().st_size for path in written) / 1e6
            print(f"wrote {folder}: {len(written)} files, {size:.0f} MB; put the folder on any static host")
        if arguments.serve:
            with page_server(folder, arguments.port) as server:
                print(f"http://127.0.0.1:{server.server_port}/ shows the page until Ctrl-C", flush=True)
                server.serve_forever()


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**16:
        raise ArgumentTypeError(f"expected a port, 0 to 65535, got '{text}'")
    return int(text)


def main(argv: Sequence[str]) -> None:
    parser = command_parser("export", __doc__)
    formats = parser.add_subparsers(required=True, metavar="FORMAT")
    for name, to, suffix, summary in (
        ("safetensors", to_safetensors, ".safetensors", "this project's released weights"),
        ("authors", to_authors_pt, ".pt", "the authors' .pt, which their test.py loads"),
        ("basicsr", to_basicsr, ".pth", "weights for code based on BasicSR: params, params_ema"),
        ("onnx", to_onnx, ".onnx", "a network for other programs, and for ssiu upscale --weights"),
        ("pt2", to_pt2, ".pt2", "a network for torch.export.load, which only needs PyTorch"),
    ):
        command = formats.add_parser(name, help=summary, description=summary)
        command.add_argument("source", type=Path, help="weights in any format, or a training checkpoint of ours")
        command.add_argument("target", type=nonempty_path, help="the file to write")
        command.add_argument("--config", metavar="FILE", help=f"config of your own model ({docs_page('own_model.md')})")
        command.set_defaults(run=convert, to=to, suffix=suffix)
        if name == "onnx":
            command.add_argument(
                "--precision", choices=list(PRECISIONS), default="fp32", help="precision of weights, input and output"
            )
            command.add_argument(
                "--tiles",
                action="store_true",
                help="adds the input tile_offset, four int32: top and left of a tile, height and width of its image, "
                "in LR pixels, so that tiles equal the whole image",
            )
    for name, write, summary, use in (
        ("comfyui", export_comfyui, "a custom node folder for ComfyUI", "put it into ComfyUI's custom_nodes"),
        ("spandrel", export_spandrel, "a pull request to spandrel", "its README.md says what to do with it"),
    ):
        command = formats.add_parser(name, help=summary, description=summary)
        command.add_argument("target", type=nonempty_path, metavar="DIR", help="the folder to make")
        command.set_defaults(run=make_plugin, write=write, use=use)
    summary = "weights with a card, for the Hugging Face Hub"
    hub = formats.add_parser("hub", help=summary, description=summary)
    hub.add_argument("source", type=Path, help="weights in any format, or a training checkpoint of ours")
    hub.add_argument("target", type=nonempty_path, metavar="DIR", help="the folder to make")
    hub.add_argument("--scores", type=Path, nargs="+", default=[], metavar="JSON", help="summary.json of ssiu test")
    hub.add_argument("--license", default="", metavar="ID", help="licence of the weights, such as apache-2.0")
    hub.add_argument("--dataset", nargs="+", default=[], metavar="NAME", help="data sets that they were trained on")
    hub.add_argument("--base-model", default="", metavar="owner/name", help="model that they were fine-tuned from")
    hub.add_argument("--push", default="", metavar="owner/name", help="also upload it, with the token of hf auth login")
    hub.set_defaults(run=make_hub_folder)
    summary = "files that describe the shipped weights for OpenModelDB"
    database = formats.add_parser("openmodeldb", help=summary, description=summary)
    database.add_argument("target", type=nonempty_path, metavar="DIR", help="the folder to make")
    database.add_argument("--owner", required=True, help="account on the Hugging Face Hub with SSIU_x4 and the others")
    database.add_argument("--author", help="your user id in OpenModelDB (default: the owner)")
    database.set_defaults(run=make_openmodeldb)
    summary = "a page that upscales images in the browser, for any static host"
    page = formats.add_parser("web", help=summary, description=summary)
    page.add_argument("target", type=nonempty_path, nargs="?", metavar="DIR", help="the folder to make")
    page.add_argument("--serve", action="store_true", help="serve the page on this machine; DIR may be left out")
    page.add_argument("--port", type=port_number, default=8000, help="port of --serve (default: 8000)")
    page.set_defaults(run=make_page, error=page.error)
    argv, model_keys = without_model(argv)
    arguments = parser.parse_args(argv)
    arguments.model_keys = model_keys
    arguments.run(arguments)

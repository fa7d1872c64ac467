"""A network's weights: read from any of their formats, checked, loaded strictly; written as safetensors.

Readable are our ``.safetensors``, a training checkpoint of ours (its moving average where it has one), the authors'
training ``.pt`` and a plain ``.pt`` state dict. Whatever the format, tensors end up under this project's names. What is
no network of this project may be one of another method's that `ssiu.peers` can build.
"""

import hashlib
import inspect
import io
import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ssiu.checkpoint import check_tensor, first_non_finite, is_checkpoint, tensors_digest, verified
from ssiu.config import Config
from ssiu.errors import BadInputError, ConfigError, MissingInputError, NonFiniteError, OutputError
from ssiu.files import require_file, user_cache_folder, write_atomically
from ssiu.models import ANY, MODELS, build_model
from ssiu.models.own import is_own
from ssiu.models.ssiu import SSIU, from_authors, to_authors
from ssiu.peers import Peer, UnknownNetworkError, build_peer
from ssiu.torch_files import read_torch_file

log = logging.getLogger("ssiu")

PACKAGE = Path(__file__).resolve().parent
# of a clone, of an installed package, and where `ssiu download weights` puts the authors' for the latter
SHIPPED = (PACKAGE.parent / "pretrain_model", PACKAGE / "pretrain_model", user_cache_folder("weights"))
MAX_BLOCKS = 99  # as in a config
WRAPPERS = ("ema", "params_ema", "params-ema", "model_state_dict", "state_dict", "params", "model", "net")  # of a .pt

RELEASED = {"num_heads": 4, "attention": "sparse", "moe": True, "beta_sign": "minus", "skip": "norm"}  # no other there


@dataclass(frozen=True)
class Weights:
    """Tensors under this project's names, what their file says about them, and the digest of all of them."""

    state_dict: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def load_model(
    path_or_scale: Path | str | int,
    device: torch.device | str = "cpu",
    scale: int | None = None,
    model: str | None = None,
) -> nn.Module:
    """The network of a weights file, or the shipped one of a scale, in eval mode on ``device``.

    The architecture is read from the tensors' names and shapes; what is none of `MODELS` becomes a `Peer` if it can.
    ``scale`` and ``model`` (a name of `MODELS`, so no `Peer`) are what the caller expects. Raises MissingInputError
    (66), naming where it looked, and BadInputError (65) for a file that is damaged or refused, of another scale or
    architecture, incomplete, or not finite.
    """
    if isinstance(path_or_scale, int):
        scale = path_or_scale
        path = find_weights(model or "SSIU", scale)
    else:
        path = Path(path_or_scale)
    weights = read_weights(path)
    architecture = _architecture(weights, path)
    if architecture is None:
        named = weights.metadata.get("model", "")
        if is_own(named):
            raise BadInputError(
                f"{path} holds weights of {named:.100}, a model outside this package; no file of weights makes Python "
                f"import one, so say it yourself: --config FILE with model: {named:.100} (docs/own_model.md)"
            )
        return _load_peer(weights, path, scale, model).to(device)
    kind, arguments = architecture
    if model is not None and MODELS[model] is not kind:
        raise BadInputError(f"{path} holds weights of {kind.__name__}, not {MODELS[model].__name__}; use others")
    _refuse_scale(path, arguments["scale"], scale)
    try:
        _refuse_misfit(_outline(kind, arguments), weights.state_dict, path)
        network = kind(**arguments)
    except (ConfigError, TypeError) as error:
        raise BadInputError(f"{path} describes a network that cannot be built: {error}") from None
    _load(network, weights.state_dict, network.state_dict().keys(), path)
    return network.to(device).eval()


def _load_peer(weights: Weights, path: Path, scale: int | None, model: str | None) -> Peer:
    unknown = f"{path} fits none of {', '.join(MODELS)}; its tensors begin with "
    unknown += f"{', '.join(sorted(weights.state_dict)[:5])!a:.300}"
    if model is not None:
        raise BadInputError(unknown)
    try:
        peer = build_peer(weights.state_dict, path)
    except UnknownNetworkError as error:
        raise BadInputError(f"{unknown}; {error}") from None
    _refuse_scale(path, peer.scale, scale)
    log.info("%s, %d tensors from %s, built by spandrel", peer.architecture, len(weights.state_dict), path)
    return peer


def _refuse_scale(path: Path, scale: int, expected: int | None) -> None:
    if expected not in (None, scale):
        raise BadInputError(f"{path} upscales by {scale}, not {expected}; ask for that scale or use another file")


def load_weights(network: nn.Module, path: Path | str) -> Weights:
    """Loads every tensor of ``path`` into ``network``, which is unchanged when this raises BadInputError (65)."""
    weights = read_weights(path)
    _compare(network, weights, path, ignore=())
    _load(network, weights.state_dict, network.state_dict().keys(), path)
    return weights


def load_configured(config: Config, path: Path | None, device: torch.device | str = "cpu") -> nn.Module:
    """The network of ``config``, which may be of the user's own, in eval mode; weights: ``path``, else the config's."""
    path = path or configured_weights(config)
    if config.model == ANY:
        return load_model(path, device, config.scale)
    network = build_model(config)
    load_weights(network, path)
    return network.to(device).eval()


def configured_weights(config: Config) -> Path:
    """The file that ``config`` names, else as `find_weights`."""
    return Path(config.pretrain) if config.pretrain else find_weights(config.model, config.scale)


def load_trunk(network: nn.Module, path: Path | str) -> None:
    """Loads every tensor but the tail's, from weights of any scale; otherwise as `load_weights`."""
    weights = read_weights(path)
    _compare(network, weights, path, ignore=("scale",))
    trunk = {n: t for n, t in weights.state_dict.items() if not n.startswith(network.tail_prefixes)}
    _load(network, trunk, [n for n in network.state_dict() if not n.startswith(network.tail_prefixes)], path)


def find_weights(model: str, scale: int) -> Path:
    """The weights to use when none were named: for SSIU the authors', where they were put there, else ours.

    Raises MissingInputError (66), naming where it looked.
    """
    if model not in MODELS:
        raise MissingInputError(f"there are no weights for {model} here; name a file with pretrain=FILE")
    name = MODELS[model].__name__
    files = ([f"model_x{scale}_290.pt"] if MODELS[model] is SSIU else []) + [f"{name}_x{scale}.safetensors"]
    places = [folder / file for file in files for folder in SHIPPED]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        looked = ", ".join(map(str, places))
        get = "get the authors' with python -m ssiu download weights, or " if MODELS[model] is SSIU else ""
        raise MissingInputError(
            f"no weights for {name} x{scale}; looked for {looked}; {get}name a file with pretrain=FILE"
        )
    return found


def shipped_file(name: str) -> Path | None:
    """The weights file of this name from where weights are looked for, if it is there."""
    return next((folder / name for folder in SHIPPED if (folder / name).is_file()), None)


def weights_folder() -> Path:
    """Where downloaded weights belong: pretrain_model of a clone, else the user's cache; `find_weights` looks there."""
    return SHIPPED[0] if SHIPPED[0].is_dir() else SHIPPED[-1]


def read_weights(path: Path | str) -> Weights:
    """The tensors of a weights file under this project's names, verified as far as the format allows.

    Raises MissingInputError (66), or BadInputError (65) for a damaged, foreign or malicious file, or NaN weights.
    """
    path = Path(path)
    if path.suffix in (".pt2", ".onnx") and path.is_file():
        raise BadInputError(
            f"{path} is an exported network, not weights; expected .safetensors or .pt here "
            f"({'torch.export.load runs it' if path.suffix == '.pt2' else 'ssiu upscale --weights runs it'})"
        )
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, metadata = _read_pt(path)
    state_dict = {re.sub(r"^((module|_orig_mod)\.)+", "", name): tensor for name, tensor in tensors.items()}
    if any(re.match(r"body\.\d+\.(s\d|ffn)\.", name) for name in state_dict):
        state_dict = from_authors(state_dict)
    if len(state_dict) < len(tensors):
        raise BadInputError(f"{path} holds two tensors of one name, such as 'a' and 'module.a'; which one is meant?")
    broken = first_non_finite(state_dict)
    if broken:
        raise BadInputError(f"{path}: tensor {broken!a:.80} holds NaN or infinity; these weights cannot be used")
    return Weights(state_dict, metadata, tensors_digest(state_dict))


def save_weights(path: Path | str, network: nn.Module, metadata: Mapping[str, str] | None = None) -> str:
    """Writes safetensors with ``metadata``, the architecture and digests in the header; returns the tensors' sha256.

    Raises NonFiniteError (70), OutputError (73) when ``path`` has another suffix, SaveError (74).
    """
    path = _with_suffix(path, ".safetensors")
    tensors = _finite_tensors(network)
    sha256 = tensors_digest(tensors)
    kind = type(network)
    model = kind.__name__ if kind in MODELS.values() else f"{kind.__module__}:{kind.__qualname__}"
    header = {**(metadata or {}), "model": model, "arguments": json.dumps(network.arguments())}
    header |= {"format": "pt", "sha256": sha256}  # transformers and others ask for "format"
    header["metadata_sha256"] = _metadata_digest(header)
    write_atomically(path, safetensors.torch.save(tensors, header))
    return sha256


def save_authors_weights(path: Path | str, network: nn.Module) -> None:
    """Writes SSIU's weights as the authors' ``model_x4_290.pt``; raises ConfigError (78) for what they cannot hold."""
    path = _with_suffix(path, ".pt")
    if not isinstance(network, SSIU):
        raise ConfigError(f"the authors' format is for SSIU, not {type(network).__name__}; export safetensors instead")
    for key, value in network.arguments().items():
        if RELEASED.get(key, value) != value:
            raise ConfigError(
                f"the authors' code has no {key}={value}, only {RELEASED[key]}; export safetensors instead"
            )
    buffer = io.BytesIO()
    torch.save({"model_state_dict": to_authors(_finite_tensors(network))}, buffer)
    write_atomically(path, buffer.getvalue())


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    require_file(path, "weights")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # a damaged or hostile file can make the reader raise anything
        raise BadInputError(f"{path} is truncated or no safetensors file ({ascii(str(error))[1:-1]:.100})") from None
    stored = {"sha256": tensors_digest(tensors), "metadata_sha256": _metadata_digest(metadata)}
    if any(key in metadata and metadata[key] != digest for key, digest in stored.items()):
        raise BadInputError(f"{path} is damaged: its contents do not match the sha256 stored in it; copy it again")
    return tensors, metadata


def _read_pt(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    document = read_torch_file(path)
    metadata = {}
    if is_checkpoint(document):
        document = verified(document, path)
        config = document.get("config", {})
        metadata = {"arguments": json.dumps(config), "step": str(document.get("step"))}
        if isinstance(config, dict):
            metadata["model"] = str(config.get("model"))
    if isinstance(document, dict):
        document = next((document[key] for key in WRAPPERS if isinstance(document.get(key), dict)), document)
    if not isinstance(document, dict) or not document:
        raise BadInputError(f"{path} holds a {type(document).__name__} and no weights; expected names with tensors")
    tensors = {}
    for name, tensor in document.items():
        if name == "n_averaged":  # torch's AveragedModel counts its updates beside the weights
            continue
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise BadInputError(f"{path}: entry {name!a:.80} is no tensor; expected a network's state dict")
        try:
            tensors[name] = check_tensor(name, tensor)
        except ValueError as error:
            raise BadInputError(f"{path} is refused: {error}") from None
    return tensors, metadata


def _architecture(weights: Weights, path: Path | str) -> tuple[type[nn.Module], dict[str, Any]] | None:
    """The class that knows these names, and its arguments: from the shapes, and from the file what leaves no shape."""
    for kind in dict.fromkeys(MODELS.values()):
        try:
            arguments = kind.arguments_from(weights.state_dict)
        except (ArithmeticError, AttributeError, IndexError, ValueError):  # our names, but nonsense
            continue
        # a forged name may ask for millions of blocks
        if arguments is not None and arguments.get("n_blocks", 0) <= MAX_BLOCKS:
            known = inspect.signature(kind).parameters
            try:
                recorded = json.loads(weights.metadata.get("arguments", "{}")).items()
            except (AttributeError, RecursionError, ValueError):
                raise BadInputError(f"{path}: its metadata do not name the arguments of {kind.__name__}") from None
            return kind, {key: value for key, value in recorded if key in known} | arguments
    return None


def _compare(network: nn.Module, weights: Weights, path: Path | str, ignore: tuple[str, ...]) -> None:
    """Refuses weights of another architecture than ``network``, naming the first argument that differs."""
    architecture = _architecture(weights, path)
    if architecture is None:
        return  # `_load` says which tensors are missing
    kind, arguments = architecture
    if kind is not type(network):
        raise _mismatch(path, "model", kind.__name__, type(network).__name__)
    for key, expected in network.arguments().items():
        if key not in ignore and arguments.get(key, expected) != expected:
            raise _mismatch(path, key, arguments[key], expected)


def _mismatch(path: Path | str, key: str, got: Any, expected: Any) -> BadInputError:
    return BadInputError(f"{path}: checkpoint {key}={got}, config {key}={expected}; change one of the two")


def _outline(kind: type[nn.Module], arguments: Mapping[str, Any]) -> nn.Module | None:
    """The network without the memory of its tensors: forged shapes in a small file may ask for any amount.

    None for a model of one's own whose constructor computes with tensors.
    """
    try:
        with torch.device("meta"):
            return kind(**arguments)
    except (NotImplementedError, RuntimeError):
        return None


def _refuse_misfit(
    network: nn.Module | None, tensors: Mapping[str, Tensor], path: Path | str, names: Collection[str] | None = None
) -> None:
    """BadInputError (65) unless ``tensors`` are the tensors of ``network``, or those of its ``names``."""
    if network is None:
        return
    own = network.state_dict()
    names = own.keys() if names is None else names
    problems = []
    for title, group in (("missing", set(names) - tensors.keys()), ("unexpected", tensors.keys() - set(names))):
        if group:
            problems.append(f"{len(group)} {title} ({', '.join(sorted(group)[:5])!a:.400})")
    wrong = [name for name in names if name in tensors and _kind(tensors[name]) != _kind(own[name])]
    problems += [f"{name} is {_kind(tensors[name])}, expected {_kind(own[name])}" for name in wrong[:5]]
    if problems:
        raise BadInputError(f"{path} does not fit {type(network).__name__}: {'; '.join(problems)}")


def _load(network: nn.Module, tensors: Mapping[str, Tensor], names: Collection[str], path: Path | str) -> None:
    """Copies ``tensors`` into the parameters ``names``; everything is checked before the first one is touched."""
    _refuse_misfit(network, tensors, path, names)
    own = network.state_dict()
    network.load_state_dict({**own, **tensors}, strict=True)
    log.info("loaded %d/%d tensors from %s", len(tensors), len(own), path)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _finite_tensors(network: nn.Module) -> dict[str, Tensor]:
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    broken = first_non_finite(tensors)
    if broken:
        raise NonFiniteError(f"tensor '{broken}' holds NaN or infinity: these weights were not written")
    return tensors


def _metadata_digest(metadata: Mapping[str, str]) -> str:
    rest = {key: value for key, value in metadata.items() if key != "metadata_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _with_suffix(path: Path | str, suffix: str) -> Path:
    if Path(path).suffix != suffix:
        raise OutputError(f"{path}: expected a file name that ends in {suffix}")
    return Path(path)

"""A network from its weights, loaded strictly, and where weights are found. `ssiu.weights.formats` reads their files.

What is no network of this project may be one of another method's that `ssiu.weights.external` can build.
"""

import inspect
import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssiu.config.schema import Config
from ssiu.errors import BadInputError, ConfigError, MissingInputError, first_names, quoted
from ssiu.files import docs_page
from ssiu.models import ANY, MODELS, build_model
from ssiu.models.base import SRNetwork
from ssiu.models.ssiu import SSIU
from ssiu.plugins import is_plugin
from ssiu.weights.checkpoint import first_non_finite
from ssiu.weights.external import ExternalNetwork, UnknownNetworkError, build_external
from ssiu.weights.formats import Weights, read_weights, released_name
from ssiu.weights.shipped import places

log = logging.getLogger("ssiu")

MAX_BLOCKS = 99  # as in a config


def load_model(
    path_or_scale: Path | str | int,
    device: torch.device | str = "cpu",
    scale: int | None = None,
    model: str | None = None,
) -> SRNetwork:
    """The network of a weights file, or the shipped one of a scale, in eval mode on ``device``.

    The architecture is read from the tensors' names and shapes; what is none of `MODELS` becomes an `ExternalNetwork`
    if it can. ``scale`` and ``model`` (a name of `MODELS`) are what the caller expects. Raises MissingInputError (66),
    naming where it looked, and BadInputError (65) for a file that is damaged or refused, of another scale or
    architecture, incomplete, or not finite.
    """
    if isinstance(path_or_scale, int):
        scale = path_or_scale
        path_or_scale = find_weights(model or "SSIU", scale)
    return network_of(read_weights(path_or_scale), device, scale, model)


def network_of(
    weights: Weights, device: torch.device | str = "cpu", scale: int | None = None, model: str | None = None
) -> SRNetwork:
    """The network of weights that have been read; otherwise as `load_model`."""
    path = weights.path
    architecture = _architecture(weights)
    if architecture is None:
        named = weights.metadata.get("model", "")
        if is_plugin(named):
            raise BadInputError(
                f"{path} holds weights of {named:.100}, a model outside this package; no file of weights makes Python "
                f"import one, so name it yourself: --config FILE with model: {named:.100} ({docs_page('own_model.md')})"
            )
        return _load_external(weights, scale, model).to(device)
    kind, arguments = architecture
    if model is not None and MODELS[model] is not kind:
        raise BadInputError(f"{path} holds weights of {kind.__name__}, not {MODELS[model].__name__}; use others")
    _refuse_scale(path, arguments["scale"], scale)
    try:
        _refuse_misfit(_outline(kind, arguments), weights.state_dict, path)
        network = kind(**arguments)
    except (ConfigError, TypeError) as error:
        raise BadInputError(f"{path} describes a network that cannot be built: {quoted(error, 300)}") from None
    _load(network, weights.state_dict, network.state_dict().keys(), path)
    return network.to(device).eval()


def _load_external(weights: Weights, scale: int | None, model: str | None) -> ExternalNetwork:
    path = weights.path
    unknown = f"{path} fits none of {', '.join(MODELS)}; its tensors begin with "
    unknown += f"{', '.join(sorted(weights.state_dict)[:5])!a:.300}"
    if model is not None:
        raise BadInputError(unknown)
    try:
        network = build_external(weights.state_dict, path)
    except UnknownNetworkError as error:
        raise BadInputError(f"{unknown}; {error}") from None
    _refuse_scale(path, network.scale, scale)
    log.info("%s, %d tensors from %s, built by spandrel", network.architecture, len(weights.state_dict), path)
    return network


def _refuse_scale(path: Path, scale: int, expected: int | None) -> None:
    if expected not in (None, scale):
        raise BadInputError(f"{path} upscales by {scale}, not {expected}; ask for that scale or use another file")


def load_weights(network: SRNetwork, path: Path | str) -> None:
    """Loads every tensor of a file into ``network``, which is unchanged when this raises BadInputError (65)."""
    _load_all(network, read_weights(path))


def load_configured(config: Config, weights: Weights | None = None, device: torch.device | str = "cpu") -> SRNetwork:
    """The network of ``config``, which may be a custom model, in eval mode; ``weights``: by default its own."""
    weights = weights or read_weights(configured_weights(config))
    if config.model == ANY:
        return network_of(weights, device, config.scale)
    network = build_model(config)
    _load_all(network, weights)
    return network.to(device).eval()


def load_ours_or(config: Config | None, weights: Weights) -> SRNetwork:
    """As `network_of` where the weights are of this project or there is no config, else as `load_configured`."""
    return network_of(weights) if config is None or _architecture(weights) else load_configured(config, weights)


def configured_weights(config: Config) -> Path:
    """The file that ``config`` names, else as `find_weights`."""
    return Path(config.pretrain) if config.pretrain else find_weights(config.model, config.scale)


def load_trunk(network: SRNetwork, path: Path | str) -> None:
    """Loads every tensor but the tail's, from weights of any scale; otherwise as `load_weights`.

    Where a custom network does not say what its tail is, that is what is missing in the file or of another shape there.
    """
    weights = read_weights(path)
    _compare(network, weights, ignore=("scale",))
    own, tensors = network.state_dict(), weights.state_dict
    names = {name for name in own if not name.startswith(network.tail_prefixes)}
    if network.tail_prefixes:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(network.tail_prefixes)}
    else:
        names = {name for name in own if name in tensors and _fits(tensors[name], own[name])}
        tensors = {name: tensors[name] for name in names}
        if not names:
            raise BadInputError(f"{path}: no tensor in it fits {network.architecture}; use weights of the same network")
        log.info("init_trunk leaves out %s", first_names(name for name in own if name not in names) or "nothing")
    _load(network, tensors, names, path)


def find_weights(model: str, scale: int) -> Path:
    """The weights to use when none were named: for SSIU the authors', where they were put there, else ours.

    Raises MissingInputError (66), naming where it looked.
    """
    if model not in MODELS:
        raise MissingInputError(f"there are no weights for {model} here; name a file with pretrain=FILE")
    name = MODELS[model].__name__
    files = ([released_name(scale)] if MODELS[model] is SSIU else []) + [f"{name}_x{scale}.safetensors"]
    looked = [path for file in files for path in places(file)]
    found = next((path for path in looked if path.is_file()), None)
    if found is None:
        get = "get the authors' with python -m ssiu download weights, or " if MODELS[model] is SSIU else ""
        raise MissingInputError(
            f"no weights for {name} x{scale}; looked for {', '.join(map(str, looked))}; {get}name a file with "
            "pretrain=FILE"
        )
    return found


def _architecture(weights: Weights) -> tuple[type[SRNetwork], dict[str, Any]] | None:
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
                raise BadInputError(
                    f"{weights.path}: its metadata do not name the arguments of {kind.__name__}"
                ) from None
            return kind, {key: value for key, value in recorded if key in known} | arguments
    return None


def _load_all(network: SRNetwork, weights: Weights) -> None:
    _compare(network, weights, ignore=())
    _load(network, weights.state_dict, network.state_dict().keys(), weights.path)


def _compare(network: SRNetwork, weights: Weights, ignore: tuple[str, ...]) -> None:
    """Refuses weights of another architecture than ``network``, naming the first argument that differs."""
    architecture = _architecture(weights)
    if architecture is None:
        return  # `_load` says which tensors are missing
    kind, arguments = architecture
    if kind is not type(network):
        raise _mismatch(weights.path, "model", kind.__name__, network.architecture)
    for key, expected in network.arguments().items():
        if key not in ignore and arguments.get(key, expected) != expected:
            raise _mismatch(weights.path, key, arguments[key], expected)


def _mismatch(path: Path | str, key: str, got: Any, expected: Any) -> BadInputError:
    other = f", or train from all but its tail with init_trunk={path}" if key == "scale" else ""
    return BadInputError(
        f"{path}: checkpoint {key}={quoted(got, 300)}, config {key}={expected}; change one of the two{other}"
    )


def _outline(kind: type[SRNetwork], arguments: Mapping[str, Any]) -> SRNetwork | None:
    """The network without the memory of its tensors: forged shapes in a small file may ask for any amount.

    None for a custom model whose constructor computes with tensors.
    """
    try:
        with torch.device("meta"):
            return kind(**arguments)
    except (NotImplementedError, RuntimeError):
        return None


def _refuse_misfit(
    network: SRNetwork | None, tensors: Mapping[str, Tensor], path: Path | str, names: Collection[str] | None = None
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
    wrong = [name for name in names if name in tensors and not _fits(tensors[name], own[name])]
    problems += [f"{name} is {_kind(tensors[name])}, expected {_kind(own[name])}" for name in wrong[:5]]
    if problems:
        raise BadInputError(f"{path} does not fit {network.architecture}: {'; '.join(problems)}")


def _load(network: SRNetwork, tensors: Mapping[str, Tensor], names: Collection[str], path: Path | str) -> None:
    """Copies ``tensors`` into the parameters ``names``; everything is checked before the first one is touched."""
    _refuse_misfit(network, tensors, path, names)
    own = network.state_dict()
    converted = {name: tensor.to(own[name].dtype) for name, tensor in tensors.items()}
    broken = first_non_finite(converted)
    if broken:
        raise BadInputError(f"{path}: tensor {broken!a:.80} holds numbers too large for {own[broken].dtype}")
    network.load_state_dict({**own, **converted}, strict=True)
    log.info("loaded %d/%d tensors from %s%s", len(tensors), len(own), path, _conversion(tensors, converted))


def _conversion(tensors: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> str:
    """What the log says of numbers that were of another kind than the network's."""
    others = {name for name, tensor in tensors.items() if tensor.dtype != converted[name].dtype}
    if not others:
        return ""
    exact = all(torch.equal(converted[name].to(tensors[name].dtype), tensors[name]) for name in others)
    kinds = sorted({str(tensors[name].dtype).removeprefix("torch.") for name in others})
    return f", {'converted exactly' if exact else 'rounded'} from {' and '.join(kinds)}"


def _fits(tensor: Tensor, own: Tensor) -> bool:
    """Of the shape and, but for the precision, of the kind of ``own``."""
    same_kind = tensor.dtype == own.dtype or (tensor.is_floating_point() and own.is_floating_point())
    return tensor.shape == own.shape and same_kind


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"

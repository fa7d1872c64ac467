"""Files of weights: read from any of their formats and checked; written as safetensors or as the authors' ``.pt``.

Readable are our ``.safetensors``, a training checkpoint of ours (its moving average where it has one), the authors'
training ``.pt`` and a plain ``.pt`` state dict. Whatever the format, tensors end up under this project's names.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ssiu.errors import BadInputError, ConfigError, NonFiniteError, OutputError, quoted
from ssiu.files import refuse_folder, require_file, write_atomically
from ssiu.models.base import SRNetwork
from ssiu.models.ssiu import SSIU, from_authors, to_authors
from ssiu.weights.checkpoint import check_tensor, first_non_finite, is_checkpoint, tensors_digest, verified
from ssiu.weights.hub import is_on_hub, obtain
from ssiu.weights.shipped import as_shipped
from ssiu.weights.torch_files import read_torch_file

WRAPPERS = ("ema", "params_ema", "params-ema", "model_state_dict", "state_dict", "params", "model", "net")  # of a .pt

RELEASED = {"num_heads": 4, "attention": "sparse", "moe": True, "beta_sign": "minus", "skip": "norm"}  # no other there


@dataclass(frozen=True)
class Weights:
    """Tensors under this project's names, what their file says about them, and the digest of all of them.

    ``path`` is the file, or its name on the hub with the commit.
    """

    path: Path
    state_dict: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str
    trained: dict[str, Tensor] | None = None  # of a checkpoint, where state_dict is the average of these


def released_name(scale: int) -> str:
    """The name of the authors' file for a scale."""
    return f"model_x{scale}_290.pt"


def read_weights(path: Path | str) -> Weights:
    """The tensors of a weights file under this project's names, verified as far as the format allows.

    A shipped file is found by its name, see `as_shipped`; ``hf:owner/name`` is one on the hub, see `obtain`. Raises
    MissingInputError (66), or BadInputError (65) for a damaged, foreign or malicious file, or NaN weights.
    """
    path = named = as_shipped(Path(path))
    if is_on_hub(path):
        path, on_hub = obtain(path)
        named = Path(str(on_hub))
    if path.name in map(released_name, (2, 3, 4)):
        require_file(path, "the authors' weights; get them: python -m ssiu download weights")
    if path.suffix in (".pt2", ".onnx") and path.is_file():
        raise BadInputError(
            f"{path} is an exported network, not weights; expected .safetensors or .pt here "
            f"({'torch.export.load runs it' if path.suffix == '.pt2' else 'ssiu upscale --weights runs it'})"
        )
    trained = None
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, metadata, trained = _read_pt(path)
    ours = "model" in metadata  # then names are the network's own, whatever they begin with
    state_dict = {name if ours else re.sub(r"^((module|_orig_mod)\.)+", "", name): t for name, t in tensors.items()}
    if any(re.match(r"body\.\d+\.(s\d|ffn)\.", name) for name in state_dict):
        state_dict = from_authors(state_dict)
    if len(state_dict) < len(tensors):
        raise BadInputError(f"{path} holds two tensors of one name, such as 'a' and 'module.a'; which one is meant?")
    broken = first_non_finite(state_dict)
    if broken:
        raise BadInputError(f"{path}: tensor {broken!a:.80} holds NaN or infinity; these weights cannot be used")
    return Weights(named, state_dict, metadata, tensors_digest(state_dict), trained)


def save_weights(path: Path | str, network: SRNetwork, metadata: Mapping[str, str] | None = None) -> str:
    """Writes safetensors with ``metadata``, the architecture and digests in the header; returns the tensors' sha256.

    Raises NonFiniteError (70), OutputError (73) as `target_file` does, SaveError (74).
    """
    path = target_file(path, ".safetensors")
    content, sha256 = encode_weights(network, metadata)
    write_atomically(path, content)
    return sha256


def encode_weights(network: SRNetwork, metadata: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """What `save_weights` writes, and the tensors' sha256. Raises NonFiniteError (70)."""
    tensors = _finite_tensors(network)
    sha256 = tensors_digest(tensors)
    header = {**(metadata or {}), "model": network.config_name, "arguments": json.dumps(network.arguments())}
    header |= {"format": "pt", "sha256": sha256}  # transformers and others ask for "format"
    header["metadata_sha256"] = _metadata_digest(header)
    return safetensors.torch.save(tensors, header), sha256


def save_authors_weights(path: Path | str, network: SRNetwork) -> None:
    """Writes SSIU's weights as the authors' ``model_x4_290.pt``; raises ConfigError (78) for what they cannot hold."""
    path = target_file(path, ".pt")
    if not isinstance(network, SSIU):
        raise ConfigError(f"the authors' format is for SSIU, not {network.architecture}; export safetensors instead")
    for key, value in network.arguments().items():
        if RELEASED.get(key, value) != value:
            raise ConfigError(
                f"the authors' code has no {key}={value}, only {RELEASED[key]}; export safetensors instead"
            )
    buffer = io.BytesIO()
    torch.save({"model_state_dict": to_authors(_finite_tensors(network))}, buffer)
    write_atomically(path, buffer.getvalue())


def save_basicsr_weights(path: Path | str, network: SRNetwork, trained: Mapping[str, Tensor] | None = None) -> None:
    """Writes the network's tensors as BasicSR does, as ``params``; raises what `save_weights` raises.

    Where ``network`` is the average of ``trained``, these are ``params`` and it is ``params_ema``.
    """
    path = target_file(path, ".pth")
    tensors = _finite_tensors(network)
    document = {"params": tensors}
    if trained is not None:
        if {name: tensor.shape for name, tensor in trained.items()} != {n: t.shape for n, t in tensors.items()}:
            raise BadInputError("the checkpoint's average is not of the network that it trains; use another one")
        document = {"params": dict(trained), "params_ema": tensors}
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_atomically(path, buffer.getvalue())


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    require_file(path, "weights")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # a damaged or hostile file can make the reader raise anything
        raise BadInputError(f"{path} is truncated or not a safetensors file ({quoted(error, 100)})") from None
    tensors = _state_dict(tensors, path)
    stored = {"sha256": tensors_digest(tensors), "metadata_sha256": _metadata_digest(metadata)}
    if any(key in metadata and metadata[key] != digest for key, digest in stored.items()):
        raise BadInputError(f"{path} is damaged: its contents do not match the sha256 stored in it; copy it again")
    return tensors, metadata


def _read_pt(path: Path) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Tensor] | None]:
    document = read_torch_file(path)
    metadata = {}
    trained = None
    if is_checkpoint(document):
        document = verified(document, path)
        config = document.get("config", {})
        try:
            metadata = {"arguments": json.dumps(config), "step": str(document.get("step"))}
        except (RecursionError, TypeError, ValueError):
            raise BadInputError(f"{path}: its config holds more than text and numbers; use another file") from None
        if isinstance(config, dict):
            metadata["model"] = str(config.get("model"))
        if isinstance(document.get("ema"), dict) and isinstance(document.get("model"), dict):
            trained = _state_dict(document["model"], path)
    if isinstance(document, dict):
        document = next((document[key] for key in WRAPPERS if isinstance(document.get(key), dict)), document)
    if not isinstance(document, dict) or not document:
        raise BadInputError(f"{path} holds a {type(document).__name__} and no weights; expected names with tensors")
    if "n_averaged" in document:  # torch's AveragedModel counts its updates beside the weights, module.NAME
        del document["n_averaged"]
        document = {str(name).removeprefix("module."): tensor for name, tensor in document.items()}
    return _state_dict(document, path), metadata, trained


def _state_dict(document: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """``document`` if it holds names with ordinary tensors, else BadInputError (65)."""
    tensors = {}
    for name, tensor in document.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise BadInputError(f"{path}: entry {name!a:.80} is not a tensor; expected a network's state dict")
        try:
            tensors[name] = check_tensor(name, tensor)
        except ValueError as error:
            raise BadInputError(f"{path} is refused: {error}") from None
    return tensors


def _finite_tensors(network: SRNetwork) -> dict[str, Tensor]:
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    broken = first_non_finite(tensors)
    if broken:
        raise NonFiniteError(f"tensor '{broken}' holds NaN or infinity: these weights were not written")
    return tensors


def _metadata_digest(metadata: Mapping[str, str]) -> str:
    rest = {key: value for key, value in metadata.items() if key != "metadata_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def target_file(path: Path | str, suffix: str) -> Path:
    """``path``, where a file of this kind can be written; raises OutputError (73) for another suffix or a folder."""
    path = Path(path)
    if path.suffix != suffix:
        raise OutputError(f"{path}: expected a file name that ends in {suffix}")
    refuse_folder(path)
    return path

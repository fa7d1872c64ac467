"""Training state in one torch file: written atomically, verified when read, never executed.

A checkpoint is a nested dict of tensors and plain values (dict, list, tuple, str, int, float, bool, None) with one
more entry, ``sha256``, over everything else in it. Files of a network's weights alone are read by
`ssiu.weights.formats`.
"""

import hashlib
import io
import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ssiu.errors import BadInputError, MissingInputError, NonFiniteError
from ssiu.files import write_atomically
from ssiu.weights.torch_files import read_torch_file

log = logging.getLogger("ssiu")

DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
DTYPES |= {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
EXPECTED = {int: "a whole number from 0", str: "a text", dict: "a dict", object: "any value"}
MOST_DIMENSIONS = 64  # that torch's operators take


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 over name, dtype, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        row = tensor.detach().cpu().contiguous().as_strided((tensor.numel(),), (1,))
        digest.update(row.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity, or None."""
    return next((n for n, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()), None)


def check_tensor(name: str, tensor: Tensor) -> Tensor:
    """Returns ``tensor`` if it is an ordinary one; raises ValueError if it claims more memory than its file gave it."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ValueError(f"tensor {name!a:.80} is {tensor.layout} on {tensor.device}")
    if tensor.dtype not in DTYPES:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"tensor {name!a:.80} is {kind}; convert it to float32, or to float16 or bfloat16")
    if tensor.dim() > MOST_DIMENSIONS:
        raise ValueError(f"tensor {name!a:.80} has {tensor.dim()} dimensions; expected {MOST_DIMENSIONS} at most")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"tensor {name!a:.80} of shape {tuple(tensor.shape)} is larger than its data")
    return tensor.detach()


def save_checkpoint(path: Path | str, state: Mapping[str, Any]) -> None:
    """Writes ``state`` so that a kill at any moment leaves the old checkpoint or the new one.

    Raises NonFiniteError (70), before anything is written, when a number in it is NaN or infinite; SaveError (74)
    when the disk is full; TypeError for a value that is neither a tensor nor plain.
    """
    plain = _plain_copy("", state)
    tensors, outline = _take_apart(plain)
    broken = first_non_finite(tensors)
    if broken:
        raise NonFiniteError(f"'{broken}' holds NaN or infinity: {path} was not written and keeps its last good state")
    buffer = io.BytesIO()
    torch.save({**plain, "sha256": _digest(tensors, outline)}, buffer)
    write_atomically(Path(path), buffer.getvalue())


def load_checkpoint(path: Path | str, entries: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote, on the CPU.

    Raises BadInputError (65) if one bit of it has changed, or if one of ``entries`` is missing or of another type.
    """
    state = verified(read_torch_file(path), path)
    for name, kind in entries.items():
        value = state.get(name)
        if name in state and isinstance(value, kind) and not (isinstance(value, int) and value < 0):
            continue
        got = "missing" if name not in state else value if type(value) is int else f"of type {type(value).__name__}"
        raise BadInputError(
            f"{path} is a checkpoint of another version or program: its entry {name!r} is {got}, expected "
            f"{EXPECTED[kind]}; use an older checkpoint, or start a new run with pretrain={path}"
        )
    return state


def is_checkpoint(document: Any) -> bool:
    """Whether ``document``, read from a torch file, was written by `save_checkpoint`."""
    return isinstance(document, dict) and "sha256" in document


def verified(document: Any, path: Path | str) -> dict[str, Any]:
    """``document`` without its digest, which has been compared; ``path`` is for the message."""
    if not is_checkpoint(document):
        raise BadInputError(
            f"{path} is not a checkpoint of a training run (it has no sha256); expected one such as models/last.pt; "
            "to start from weights use pretrain=FILE"
        )
    state = {key: value for key, value in document.items() if key != "sha256"}
    try:
        intact = document["sha256"] == _digest(*_take_apart(state))
    except (TypeError, ValueError, RuntimeError):  # holds what save_checkpoint never writes
        intact = False
    if not intact:
        raise BadInputError(
            f"{path} is damaged: its contents do not match the sha256 stored in it; use an older checkpoint"
        )
    return state


def find_checkpoint(
    folder: Path | str, entries: Mapping[str, type] = MappingProxyType({})
) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint in ``folder`` that loads with its ``entries``; None when there is no ``*.pt`` at all.

    ``last.pt`` comes first, then the others from the highest number in the name down. One that does not load is
    skipped with a warning. Raises BadInputError (65) when none loads: starting over is for the user to decide.
    """
    paths = sorted(Path(folder).glob("*.pt"), key=_age)
    for path in paths:
        try:
            state = load_checkpoint(path, entries)
        except (BadInputError, MissingInputError) as error:  # the latter for a folder, or one that may not be read
            log.warning("skipped a checkpoint: %s", error)
            continue
        if path != paths[0]:
            log.warning("continuing from %s, the newest intact checkpoint", path)
        return path, state
    if not paths:
        return None
    raise BadInputError(
        f"none of the {len(paths)} checkpoints in {folder} can be read; restore one, or start over in a new run folder"
    )


def _age(path: Path) -> tuple[bool, int, str]:
    numbers = re.findall(r"\d+", path.stem)
    return path.name != "last.pt", -int(numbers[-1]) if numbers else 1, path.name


def _plain_copy(path: str, value: Any) -> Any:
    """``value`` as `_take_apart` expects it, independent of the live network, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        if not all(type(key) in (str, int) for key in value):
            raise TypeError(f"'{path[1:]}' has a key that is neither str nor int")
        return {key: _plain_copy(f"{path}/{key}", item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain_copy(f"{path}/{index}", item) for index, item in enumerate(value))
    if value is None or type(value) in (str, int, bool):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise NonFiniteError(f"'{path[1:]}' is {value}: no checkpoint was written")
        return value
    raise TypeError(f"'{path[1:]}' is a {type(value).__name__}; a checkpoint holds tensors and plain values only")


def _take_apart(state: dict[str, Any]) -> tuple[dict[str, Tensor], str]:
    """The tensors of ``state`` by their path, and everything else as canonical JSON with those paths in place.

    Raises ValueError for what a file could hold but `save_checkpoint` never writes: a container that is reached
    twice (which could unfold without end), two equal paths, or a number that is not finite.
    """
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()

    def outline(path: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            if path in tensors:
                raise ValueError(f"two tensors at {path}")
            tensors[path] = check_tensor(path, value)
            return {"tensor": path}
        if type(value) not in (dict, list, tuple):
            return value
        if value and id(value) in seen:
            raise ValueError(f"{path} is reached twice")
        seen.add(id(value))
        items = list(value.items()) if type(value) is dict else list(enumerate(value))
        return {type(value).__name__: [[key, outline(f"{path}/{key}".strip("/"), item)] for key, item in items]}

    return tensors, json.dumps(outline("", state), allow_nan=False)


def _digest(tensors: dict[str, Tensor], outline: str) -> str:
    return hashlib.sha256((tensors_digest(tensors) + outline).encode()).hexdigest()

"""Reading files of ``torch.save``: nothing in them is executed, and none takes memory or time out of proportion.

`torch.load(weights_only=True)` runs no code. But 900 bytes can make it call ``bytearray(2_000_000_000)``, or hash a
dict key of tuples nested 45 times, which takes 2^45 steps. So each pickle is first read as what it is, a list of
instructions for a stack, and may use only what state dicts need: `LITERALS`, `OPERANDS` and `CALLS`.
"""

import io
import pickletools
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ssiu.errors import BadInputError, MissingInputError, first_line, quoted
from ssiu.files import require_file

SIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2}
SIZES |= {"Char": 1, "Byte": 1, "Bool": 1}
ELEMENT_BYTES = {f"torch {name}Storage": size for name, size in SIZES.items()}
COPYING_CALLS = {"collections OrderedDict", "collections Counter"}  # the latter of MultiStepLR's milestones
CALLS = COPYING_CALLS | {f"torch._utils _rebuild_{name}" for name in ("tensor", "tensor_v2", "parameter")}

LITERALS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
LITERALS |= {"SHORT_BINSTRING", "GLOBAL"}  # a text of Python 2, and a name
OPERANDS = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None, "REDUCE": 2, "BUILD": 1, "STOP": 1}
OPERANDS |= {"APPEND": 1, "APPENDS": None, "SETITEM": 2, "SETITEMS": None, "BINPERSID": 1}
"""What an instruction takes from the stack; None: all since the last mark."""

LONGEST_TUPLE = 1024  # the state of Python's random numbers has 625
UNPACKED = 20  # times its own size, which an archive may unpack to
_MARK, _OPAQUE = object(), object()


def read_torch_file(path: Path | str) -> Any:
    """What the torch file ``path`` holds, on the CPU. Nothing in it is executed or imported.

    Both formats of torch are read: the archive, whose checksums are compared, and the one from before 1.6. Raises
    MissingInputError (66), or BadInputError (65) naming what the file wanted to call.
    """
    path = Path(path)
    require_file(path, "a checkpoint or weights")
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # torch's, on protocols of pickle
            zipped = file.read(4) == b"PK\x03\x04"
            return torch.load(_checked_archive(file) if zipped else _checked_legacy(file), "cpu", weights_only=True)
    except PermissionError as error:
        raise MissingInputError(f"cannot read {path}: {error.strerror}; change its permissions") from None
    except _RefusedError as error:
        # names inside the file are the attacker's: no control characters reach the terminal
        raise BadInputError(f"{path} is refused: {quoted(error, 300)}; expected a plain state dict") from None
    except Exception as error:  # a damaged or hostile file can make the readers raise anything
        reason = first_line(error)
        raise BadInputError(f"{path} is truncated or not a torch file of tensors ({quoted(reason, 100)})") from None


class _RefusedError(Exception):
    """A file would do what no state dict needs."""


class _NestedTuple(tuple):
    """A tuple with a tuple in it."""


def _checked_archive(file: BinaryIO) -> BinaryIO:
    """A copy with what was checked and nothing else: readers of archives differ in which entry a name means."""
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as checked:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise _RefusedError("it is TorchScript, so a program")
        size, unpacked = file.seek(0, io.SEEK_END), sum(entry.file_size for entry in archive.infolist())
        if unpacked > UNPACKED * size:
            raise _RefusedError(f"its {size:,} bytes would unpack to {unpacked:,}")
        folder = next((name for name in names if name.endswith("/data.pkl")), "").removesuffix("data.pkl")
        _, storages = _followed(pickletools.genops(archive.read(f"{folder}data.pkl")))
        for name in ("data.pkl", "version", "byteorder", *(f"data/{key}" for key in storages)):
            if name != "byteorder" or folder + name in names:  # torch has written it since 2.1
                checked.writestr(f"archive/{name}", archive.read(folder + name))
    copy.seek(0)
    return copy


def _checked_legacy(file: BinaryIO) -> BinaryIO:
    """``file`` itself: five pickles, the last two its document and its storages' keys; 8 bytes and the data of each."""
    file.seek(0)
    *_, (_, storages), (keys, _) = [_followed(pickletools.genops(file)) for _ in range(5)]
    end = file.tell() + sum(8 + size for size in storages.values())
    if sorted(keys) != sorted(storages) or file.seek(0, io.SEEK_END) != end:
        raise ValueError("some of its tensors are missing")
    file.seek(0)
    return file


def _followed(operations: Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> tuple[Any, dict[Any, int]]:
    """What a pickle would make, in outline, and the bytes of the storages that it asks for, by key.

    Literals, names and tuples stand for themselves; a list or dict is the list of what it was filled with; all else is
    `_OPAQUE`. Raises _RefusedError, and what a damaged pickle makes of the stack (a ValueError, an IndexError, ...).
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    storages: dict[Any, int] = {}
    for opcode, argument, _ in operations:
        name = opcode.name
        if name == "GLOBAL" and argument not in CALLS and argument not in ELEMENT_BYTES:
            raise _RefusedError(f"it would call {argument.replace(' ', '.')}")
        if name in LITERALS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            if isinstance(memo[argument], _NestedTuple):
                raise _RefusedError("it holds a nested tuple twice")
            stack.append(_OPAQUE if isinstance(memo[argument], list) else memo[argument])
        elif name in OPERANDS:
            operands = _popped(stack, OPERANDS[name])
            if "TUPLE" in name:
                stack.append(_tuple(operands))
            elif name == "REDUCE":
                stack.append(_called(*operands))
            elif name == "BINPERSID":
                _, storage, key, _, count, *_ = operands[0]
                storages.setdefault(key, count * ELEMENT_BYTES[storage])
                stack.append(_OPAQUE)
            elif name == "BUILD":
                if not isinstance(operands[0], list) or operands[0][::2] != ["_metadata"]:
                    raise _RefusedError("it would change the attributes of an object")
            elif name == "STOP":
                return operands[0], storages
            else:
                stack[-1].extend(operands)
        elif name != "PROTO":
            raise _RefusedError(f"its pickle uses {name}")
    raise ValueError("the pickle has no end")


def _popped(stack: list[Any], count: int | None) -> list[Any]:
    operands: list[Any] = []
    while len(operands) != count and (top := stack.pop()) is not _MARK:
        operands.append(top)
    return operands[::-1]


def _tuple(operands: list[Any]) -> tuple[Any, ...]:
    """A key may be a tuple, and hashing it takes as long as all that is in it."""
    if len(operands) > LONGEST_TUPLE or any(isinstance(each, _NestedTuple) for each in operands):
        raise _RefusedError("it holds a tuple that is longer or nested deeper than any of a state dict")
    nested = any(isinstance(each, tuple) for each in operands)
    return _NestedTuple(operands) if nested else tuple(operands)


def _called(call: str, arguments: tuple[Any, ...]) -> Any:
    """What a call gives: a dict to fill, or what can be neither filled nor copied, since five bytes ask for a copy."""
    if call not in CALLS:
        raise _RefusedError("it would call what is not a function")
    if call in COPYING_CALLS and any(each is _OPAQUE for each in arguments):
        raise _RefusedError(f"it would copy a dict with {call.replace(' ', '.')}")
    return _OPAQUE if arguments or call not in COPYING_CALLS else []

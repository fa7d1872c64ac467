"""Reading files of ``torch.save``: nothing in them is executed, and none takes more memory than it brings.

`torch.load(weights_only=True)` runs no code, but it does call ``torch.Tensor(2_000_000_000)`` or ``bytearray(n)`` when
a file of 900 bytes says so. So what the pickle in a file would do is followed first, without doing it: plain values,
and the few calls that state dicts are made of, each of which takes memory in proportion to its file.
"""

import io
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from ssiu.errors import BadInputError, MissingInputError, SSIUError, quoted
from ssiu.files import require_file

STORAGES = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}
"""Bytes an element, by the name in the pickle."""

CALLS = {
    "torch._utils _rebuild_tensor_v2",  # a view of a storage, which torch refuses to let grow
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
    "collections Counter",  # of MultiStepLR's milestones
}
COPIED = 64  # entries of a dict that a call copies: a pickle can ask for the same copy in five bytes

OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what torch wrote before 1.6 begins with, a pickled number

LITERALS = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINSTRING"}
OTHERS = {"NONE", "NEWTRUE", "NEWFALSE"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_torch_file(path: Path | str) -> Any:
    """What the torch file ``path`` holds, on the CPU. Nothing in it is executed or imported.

    Only the zip format that torch has written since 1.6 is read, its checksums are compared, and neither may it unpack
    to more than its own size nor ask for more memory than that. Raises MissingInputError (66), or BadInputError (65)
    naming what the file wanted to call.
    """
    path = Path(path)
    require_file(path, "a checkpoint or weights")
    try:
        with path.open("rb") as file:
            _check_archive(path, file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise MissingInputError(f"cannot read {path}: {error.strerror}; change its permissions") from None
    except SSIUError:
        raise
    except _RefusedError as error:
        raise _refusal(path, str(error)) from None
    except Exception as error:  # a damaged or hostile file can make the readers raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInputError(f"{path} is truncated or no torch file of tensors ({quoted(reason, 100)})") from None


def _check_archive(path: Path, file: BinaryIO) -> None:
    if file.read(len(OLD_FORMAT)) == OLD_FORMAT:
        again = "import torch; torch.save(torch.load('FILE', weights_only=True), 'new.pth')"
        raise BadInputError(
            f'{path} is in the format of torch before 1.6, which is not read; write it again: python -c "{again}"'
        )
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise _refusal(path, "it is TorchScript, so a program")
        size, unpacked = file.seek(0, io.SEEK_END), sum(entry.file_size for entry in entries)
        if unpacked > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise _refusal(path, f"its {size:,} bytes would unpack to {unpacked:,}")
        # torch takes an entry with the folder bit for an empty one and hands out its memory unread
        damaged = archive.testzip() or next((e.filename for e in entries if e.external_attr & 0x10), None)
        if damaged:
            raise BadInputError(f"{path} is damaged: its entry {damaged!a:.80} is not as torch wrote it; copy it again")
        sizes = {entry.filename: entry.file_size for entry in entries}
        if len(sizes) < len(entries):
            raise _refusal(path, "two of its entries have one name")
        folder = entries[0].filename.partition("/")[0]  # torch takes the first entry's, too
        _check_pickle(archive.read(f"{folder}/data.pkl"), {name.partition("/data/")[2]: sizes[name] for name in sizes})


class _RefusedError(Exception):
    """A pickle would do what no state dict needs."""


class _Global(NamedTuple):
    """A name that a pickle refers to."""

    name: str


def _check_pickle(pickled: bytes, sizes: Mapping[str, int]) -> None:
    """Follows what loading ``pickled`` would do, with the storages of ``sizes`` (bytes, by key).

    Strings, numbers, tuples and names are followed by value, lists and dicts by their length, all else is None.
    Raises _RefusedError for anything but plain values and the `CALLS`; what a damaged pickle makes of the stack (a
    ValueError, an IndexError, ...) is for the caller.
    """
    operations = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(pickled)]
    named = dict.fromkeys(argument for name, argument in operations if name == "GLOBAL")
    foreign = [name.replace("__builtin__", "builtins").replace(" ", ".") for name in named if not _is_known(name)]
    if foreign:
        raise _RefusedError(f"it would call {', '.join(foreign[:5])}")
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    for name, argument in operations:
        if name in LITERALS:
            stack.append(argument)
        elif name in OTHERS:
            stack.append(None)
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append([])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in TUPLES:
            start = len(stack) - TUPLES[name]
            stack[start:] = [tuple(stack[start:])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("SETITEM", "APPEND"):
            del stack[-2 if name == "SETITEM" else -1 :]
            _grow(stack[-1], 1)
        elif name in ("SETITEMS", "APPENDS"):
            values = since_mark()
            _grow(stack[-1], len(values))
        elif name == "GLOBAL":
            stack.append(_Global(argument))
        elif name == "BINPERSID":
            _check_storage(stack.pop(), sizes)
            stack.append(None)
        elif name == "REDUCE":
            arguments, call = stack.pop(), stack.pop()
            if not isinstance(call, _Global) or call.name not in CALLS:
                raise _RefusedError("it would call what is not a function")
            stack.append(_called(call.name, arguments))
        elif name == "BUILD":  # an OrderedDict's `_metadata`
            state = stack.pop()
            if not isinstance(stack[-1], list) or not isinstance(state, list) or len(state) > COPIED:
                raise _RefusedError("it would change the attributes of an object")
        elif name not in ("PROTO", "STOP"):
            raise _RefusedError(f"its pickle uses {name}")


def _is_known(name: str) -> bool:
    return name in CALLS or name in STORAGES


def _called(call: str, arguments: Any) -> Any:
    """What a call of ``arguments`` gives; a call that copies may copy little."""
    if not call.startswith("collections "):
        return None
    if any(not isinstance(argument, list) or len(argument) > COPIED for argument in arguments):
        raise _RefusedError(f"it would copy a large dict with {call.replace(' ', '.')}")
    return []


def _grow(container: Any, count: int) -> None:
    if not isinstance(container, list):
        raise _RefusedError("it would fill what is neither list nor dict")
    container.extend([None] * count)


def _check_storage(key: Any, sizes: Mapping[str, int]) -> None:
    """Refuses a tensor's memory that is not, or not wholly, in the archive."""
    kind, storage, record, _, count = key
    if kind != "storage" or storage.name not in STORAGES or not 0 <= count * STORAGES[storage.name] <= sizes[record]:
        raise _RefusedError(f"a tensor in it claims {count} elements that it does not hold")


def _refusal(path: Path, reason: str) -> BadInputError:
    # names inside the file are the attacker's: no control characters reach the terminal
    return BadInputError(f"{path} is refused: {quoted(reason, 300)}; expected a plain state dict")

"""Torch files in both of torch's formats, among them such as a stranger could send."""

import builtins
import functools
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


class Call:
    """Pickles to a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def saved(document: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(document, buffer, **options)
    return buffer.getvalue()


def legacy(document: Any) -> bytes:
    """What torch.save wrote before 1.6."""
    return saved(document, _use_new_zipfile_serialization=False)


def torch_zip(data_pkl: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """A file laid out as torch.save does it, with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in {"data.pkl": data_pkl, "byteorder": b"little", "version": b"3\n", **entries}.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def torch_legacy(data_pkl: bytes, keys: tuple[str, ...] = (), data: bytes = b"") -> bytes:
    """The same as torch laid it out before 1.6; ``data`` is of the storages ``keys``."""
    pickles = [pickle.dumps(document, 2) for document in (MAGIC_NUMBER, 1001, {"little_endian": True})]
    return b"".join([*pickles, data_pkl, pickle.dumps(list(keys), 2), data])


def rewritten(archive: bytes, compression: int = zipfile.ZIP_DEFLATED, **changed: bytes) -> bytes:
    """``archive`` as another tool packs it, with some of its entries ``changed``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(buffer, "w", compression) as after:
        for name in before.namelist():
            after.writestr(name, changed.get(name.partition("/")[2], before.read(name)))
    return buffer.getvalue()


def hostile_pickles() -> Iterator[tuple[str, bytes, str]]:
    """(name, pickle, what the refusal must name): gigabytes or days for torch's own reader, from some KB."""

    def call(function: str, *numbers: int) -> bytes:
        integers = b"".join(b"J" + number.to_bytes(4, "little") for number in numbers)
        return b"\x80\x02c" + "\n".join([*function.rsplit(".", 1), ""]).encode() + b"(" + integers + b"tR."

    for function in ("torch.Tensor", "torch.FloatTensor", "builtins.bytearray", "__builtin__.bytearray"):
        yield function, call(function, 2_000_000_000), function
    yield "a storage", call("torch.FloatStorage", 2_000_000_000), "not a function"

    doubled = b")q\x00" + b"h\x00h\x00\x86q\x00" * 45
    yield "a tuple as key", b"\x80\x02}" + doubled + b"Ns.", "nested tuple"
    yield "tuples as keys", b"\x80\x02}(" + doubled + b"Nu.", "nested tuple"
    yield "a counted tuple", b"\x80\x02ccollections\nCounter\n(" + doubled + b"tR.", "nested tuple"
    yield "a tuple as value", b"\x80\x02}X\x01\x00\x00\x00a" + doubled + b"s.", "nested tuple"
    yield "a tuple as item", b"\x80\x02]" + doubled + b"a.", "nested tuple"
    yield "a deep tuple", b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.", "nested deeper"
    yield "a long tuple", b"\x80\x02}(" + b"K\x01" * 100_000 + b"tq\x00" + b"h\x00Ns" * 100_000 + b".", "longer"

    counter, ordered = b"ccollections\nCounter\nq\x02", b"ccollections\nOrderedDict\nq\x02"
    many = b"}q\x01(" + b"".join(b"J" + n.to_bytes(4, "little") + b"N" for n in range(20_000)) + b"u"  # as number 1
    head, end = b"\x80\x02]q\x03(", b"e."
    yield "copies", head + many + counter + b"h\x02h\x01\x85R" * 20_000 + end, "copy a dict"
    yield "copies of copies", head + ordered + many + b"\x85R" + b"q\x04h\x02h\x04\x85R" * 20_000 + end, "copy a dict"
    yield "attributes", head + many + ordered + b"h\x02)Rh\x01b" * 20_000 + end, "change the attributes"
    yield "a method", b"\x80\x02" + ordered + b")R}X\x05\x00\x00\x00itemsK\x01sb.", "change the attributes"


def hostile_files(victim: Path) -> Iterator[tuple[str, bytes, str]]:
    """(name, content, what the refusal must name): torch files that would create ``victim`` or exhaust the machine."""
    command = f"touch {victim}"
    python = f"open({str(victim)!r}, 'w')"
    touch = Call(os.system, command)
    weights = {f"module.head.{i}": torch.ones(3) for i in range(3)}
    yield "os.system", saved(touch), "posix.system"
    yield "eval", saved({"a": Call(eval, python)}), "__builtin__.eval"
    yield "exec", saved([Call(exec, python)]), "__builtin__.exec"
    yield "popen", saved(Call(subprocess.Popen, ["touch", str(victim)])), "Popen"
    yield "getattr", saved(Call(getattr, Call(builtins.__import__, "os"), "system")), "__builtin__.getattr"
    yield "partial", saved(functools.partial(os.system, command)), "functools.partial"
    yield "nested", saved({"epoch": 1, "model_state_dict": {**weights, "x": {"y": [touch]}}}), "posix.system"
    yield "beside weights", saved({"params": weights, "note": touch}), "posix.system"
    yield "a key", saved({Call(os.system, command): 1}), "posix.system"
    yield "a whole module", saved(torch.nn.Conv2d(1, 1, 1)), "Conv2d"
    yield "torch.load", saved(Call(torch.load, "evil.pt", None, None)), "torch.serialization.load"
    call = b"X" + len(command).to_bytes(4, "little") + command.encode() + b"\x85R."  # BINUNICODE, TUPLE1, REDUCE
    yield "opcode GLOBAL", torch_zip(b"\x80\x02cos\nsystem\n" + call), "os.system"
    yield "opcode INST", torch_zip(b"(S'" + command.encode() + b"'\nios\nsystem\n."), "STRING"
    dotted = b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93"
    yield "dotted name", torch_zip(dotted + call), "SHORT_BINUNICODE"
    yield "escape codes", torch_zip(b"\x80\x02cos\n\x1b[2Jsystem\n" + call), "os.\\x1b[2Jsystem"
    yield "extension registry", torch_zip(b"\x80\x02\x82\x01."), "EXT1"
    yield "persistent id", torch_zip(b"Pevil\n."), "PERSID"
    yield "bare pickle", pickle.dumps(touch), ""
    yield "legacy format", legacy({"a": touch}), "posix.system"
    yield "legacy system info", pickle.dumps(MAGIC_NUMBER, 2) + pickle.dumps(1001, 2) + pickle.dumps(touch, 2), "system"
    code = {"constants.pkl": pickle.dumps(()), "code/__torch__.py": python.encode()}
    yield "TorchScript", torch_zip(pickle.dumps({"a": 1}, 2), **code), "a program"
    yield "deflated", torch_zip(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, **{"data/0": bytes(200_000_000)}), "unpack"
    yield "expanded tensor", saved({"head": _Expanded()}), "larger than its data"
    yield "expanded tensor with a digest", saved({"model": {"head": _Expanded()}, "sha256": "0" * 64}), "damaged"
    tensor = saved(torch.ones(300))
    pickled = zipfile.ZipFile(io.BytesIO(tensor)).read("archive/data.pkl")
    count, billions = (300).to_bytes(2, "little"), (2_000_000_000).to_bytes(4, "little")
    claim = pickled.replace(b"M" + count, b"J" + billions)
    yield "a claim", rewritten(tensor, **{"data.pkl": claim}), "does not match expected size"
    before = legacy(torch.ones(300))
    claim = before.replace(
        b"M" + (300).to_bytes(2, "little") + b"N", b"J" + (2_000_000_000).to_bytes(4, "little") + b"N"
    )
    yield "a legacy claim", claim, "some of its tensors are missing"
    yield (
        "a legacy claim of no bytes",
        before[: before.rindex(b"\x80\x02]")] + pickle.dumps([], 2),
        "some of its tensors are missing",
    )
    bomb: list = []
    for _ in range(60):
        bomb = [bomb, bomb]
    yield "doubling lists", saved({"sha256": "0" * 64, "model": bomb}), "damaged"
    cycle: dict = {}
    cycle["model"] = cycle
    yield "cycle", saved({**cycle, "sha256": "0" * 64}), "damaged"
    for name, pickled, must_name in hostile_pickles():
        yield name, torch_zip(pickled), must_name
        yield f"legacy {name}", torch_legacy(pickled), must_name


class _Expanded:
    """10^12 elements over a storage of four."""

    def __reduce__(self) -> tuple:
        storage = torch.storage.TypedStorage(
            wrap_storage=torch.ones(4).untyped_storage(), dtype=torch.float32, _internal=True
        )
        return torch._utils._rebuild_tensor_v2, (storage, 0, (10**6, 10**6), (0, 0), False, {})

"""What the fault tests share: children that are killed or starved at a chosen moment, hostile torch files."""

import builtins
import contextlib
import functools
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

IO_MODULES = [sys.modules["posix"], sys.modules["_io"]]
EFFECTS = (  # audit events
    ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.remove", "os.rename", "os.mkdir", "os.chmod")
    + ("subprocess.Popen", "exec", "compile", "import", "ctypes.dlopen", "socket.connect", "shutil.rmtree")
    + ("code.__new__", "function.__new__", "os.putenv")
)


def in_child(task: Callable[[], Any]) -> tuple[int, Any]:
    """Runs ``task`` in a fork: its exit code (minus the signal that killed it), and its result sent as JSON."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writer, json.dumps(task()).encode())
            code = 0
        except BaseException as error:
            code = getattr(error, "exit_code", 1)
            os.write(writer, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, json.loads(result) if result else None


def at_io_call(number: int, act: Callable[[], None], names: tuple[str, ...] = ()) -> None:
    """Calls ``act`` at the ``number``-th moment before or after an I/O call of write_atomically, from now on.

    With ``names`` only the moments before those calls count; what ``act`` raises, the call then raises.
    """
    seen = -1

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        if frame.f_code.co_name == "write_atomically" and event in ("call", "return"):
            seen = 0 if event == "call" else -1
        if seen < 0 or event not in (("c_call",) if names else ("c_call", "c_return")):
            return
        owner = getattr(argument, "__self__", None)
        if (owner in IO_MODULES or isinstance(owner, io.IOBase)) and (not names or argument.__name__ in names):
            seen += 1
            if seen == number:
                act()

    sys.setprofile(profile)


@contextlib.contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """TimeoutError in what waits longer than this."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not ended after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def limit_file_size(size: int, kill: bool) -> None:
    """From now on a file cannot grow beyond ``size`` bytes: the write fails, or the kernel kills the process in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)


def limit_memory(extra: int) -> None:
    """From now on the process may map ``extra`` bytes more than it does."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + extra, mapped + extra))


def record_effects() -> list[str]:
    """A list that from now on receives every audit event that runs, imports, writes or removes something."""
    events: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in EFFECTS or writes:
            events.append(f"{event} {arguments!r:.100}")

    sys.addaudithook(hook)
    return events


class Call:
    """Pickles to a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def torch_zip(data_pkl: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """A file laid out as torch.save does it, with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in {"data.pkl": data_pkl, "byteorder": b"little", "version": b"3\n", **entries}.items():
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def saved(document: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(document, buffer, **options)
    return buffer.getvalue()


def calls(module: str, name: str, *numbers: int) -> bytes:
    """A torch file that is the result of one call, for functions that do not pickle by name."""
    integers = b"".join(b"J" + number.to_bytes(4, "little") for number in numbers)
    return torch_zip(b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + integers + b"tR.")


def greedy_files() -> Iterator[tuple[str, bytes, str]]:
    """(name, content, what the refusal must name): torch files of some KB that would take gigabytes."""
    billions = 2_000_000_000
    yield "torch.Tensor", calls("torch", "Tensor", billions), "torch.Tensor"
    yield "torch.FloatTensor", calls("torch", "FloatTensor", billions), "torch.FloatTensor"
    yield "bytearray", calls("builtins", "bytearray", billions), "builtins.bytearray"
    yield "bytearray of Python 2", calls("__builtin__", "bytearray", billions), "builtins.bytearray"
    yield "a storage", calls("torch", "FloatStorage", billions), "not a function"
    yield "beside parameters", saved({"params": {"a": torch.ones(2)}, "x": Call(bytearray, billions)}), "bytearray"
    pickled = zipfile.ZipFile(io.BytesIO(saved(torch.ones(300)))).read("archive/data.pkl")
    claim = pickled.replace(b"M" + (300).to_bytes(2, "little"), b"J" + billions.to_bytes(4, "little"))
    assert claim != pickled
    yield "a claim", torch_zip(claim, **{"data/0": bytes(1200)}), "claims 2000000000 elements"
    entries = b"".join(b"J" + n.to_bytes(4, "little") + b"N" for n in range(20_000))
    many = b"}q\x01(" + entries + b"u"  # a dict of 20,000, as number 1
    counter, ordered = b"ccollections\nCounter\nq\x02", b"ccollections\nOrderedDict\nq\x02"
    head, again = b"\x80\x02]q\x03(", b"e."
    yield "copies", torch_zip(head + many + counter + b"h\x02h\x01\x85R" * 20_000 + again), "copy a large dict"
    yield "ordered", torch_zip(head + many + ordered + b"h\x02h\x01\x85R" * 20_000 + again), "copy a large dict"
    yield "attributes", torch_zip(head + many + ordered + b"h\x02)Rh\x01b" * 20_000 + again), "change the attributes"


def hostile_files(victim: Path) -> Iterator[tuple[str, bytes, str]]:
    """(name, content, what the refusal must name): torch files that would create ``victim`` or exhaust memory."""
    command = f"touch {victim}"
    python = f"open({str(victim)!r}, 'w')"
    touch = Call(os.system, command)
    weights = {f"module.head.{i}": torch.ones(3) for i in range(3)}
    yield "os.system", saved(touch), "posix.system"
    yield "eval", saved({"a": Call(eval, python)}), "builtins.eval"
    yield "exec", saved([Call(exec, python)]), "builtins.exec"
    yield "popen", saved(Call(subprocess.Popen, ["touch", str(victim)])), "Popen"
    yield "import", saved(Call(builtins.__import__, "this")), "builtins.__import__"
    yield "getattr", saved(Call(getattr, Call(builtins.__import__, "os"), "system")), "builtins.__import__"
    yield "partial", saved(functools.partial(os.system, command)), "functools.partial"
    yield "nested", saved({"epoch": 1, "model_state_dict": {**weights, "x": {"y": [touch]}}}), "posix.system"
    yield "beside weights", saved({"params": weights, "note": touch}), "posix.system"
    yield "a key", saved({Call(os.system, command): 1}), "posix.system"
    yield "a whole module", saved(torch.nn.Conv2d(1, 1, 1)), "Conv2d"
    yield "torch.load", saved(Call(torch.load, "evil.pt", None, None)), "torch.serialization.load"
    call = b"X" + len(command).to_bytes(4, "little") + command.encode() + b"\x85R."  # BINUNICODE, TUPLE1, REDUCE
    yield "opcode GLOBAL", torch_zip(b"\x80\x02cos\nsystem\n" + call), "os.system"
    yield "opcode INST", torch_zip(b"(S'" + command.encode() + b"'\nios\nsystem\n."), ""
    dotted = b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93"
    yield "dotted name", torch_zip(dotted + call), ""
    yield "escape codes", torch_zip(b"\x80\x04\x8c\x02os\x8c\x0a\x1b[2Jsystem\x93" + call), ""
    yield "extension registry", torch_zip(b"\x80\x02\x82\x01."), ""
    yield "persistent id", torch_zip(b"Pevil\n."), ""
    yield "bare pickle", pickle.dumps(touch), ""
    yield "legacy format", saved({"a": touch}, _use_new_zipfile_serialization=False), ""
    code = {"constants.pkl": pickle.dumps(()), "code/__torch__.py": python.encode()}
    yield "TorchScript", torch_zip(pickle.dumps({"a": 1}, 2), **code), ""
    yield "deflated", torch_zip(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, **{"data/0": bytes(200_000_000)}), "unpack"
    yield "expanded tensor", saved({"head": _Expanded()}), ""
    yield "expanded tensor with a digest", saved({"model": {"head": _Expanded()}, "sha256": "0" * 64}), "damaged"
    bomb: list = []
    for _ in range(60):
        bomb = [bomb, bomb]
    yield "doubling lists", saved({"sha256": "0" * 64, "model": bomb}), "damaged"
    cycle: dict = {}
    cycle["model"] = cycle
    yield "cycle", saved({**cycle, "sha256": "0" * 64}), "damaged"
    yield from greedy_files()


class _Expanded:
    """10^12 elements over a storage of four."""

    def __reduce__(self) -> tuple:
        storage = torch.storage.TypedStorage(
            wrap_storage=torch.ones(4).untyped_storage(), dtype=torch.float32, _internal=True
        )
        return torch._utils._rebuild_tensor_v2, (storage, 0, (10**6, 10**6), (0, 0), False, {})

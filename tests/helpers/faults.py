"""What the fault tests share: children that are killed or starved at a chosen moment."""

import contextlib
import io
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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

"""Commands as processes of their own that start in a moment: one server imports torch, every process is a fork of it.

A process is its own session and process group, ends like any Python program, and can be killed or starved as a whole.
"""

import fcntl
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# torch loads its compiler when only deterministic algorithms are allowed
PRELOADED = [
    "ssiu.training.trainer",
    "ssiu.cli.train",
    "faults",
    "torch.utils.tensorboard",
    "torch._inductor.config",
    "torch.distributed",
]


class Forked:
    """A started process, leader of group ``pid``; its stdout and stderr together are in ``log``."""

    def __init__(self, server: "ForkServer", pid: int, log: Path):
        self._server, self.pid, self.log = server, pid, log
        self._exit = os.pidfd_open(pid)

    def send(self, signum: int) -> None:
        """Sends a signal to the whole process group."""
        os.killpg(self.pid, signum)

    def ended(self, timeout: float) -> bool:
        return bool(select.select([self._exit], [], [], timeout)[0])  # of a pidfd: readable when it has ended

    def wait(self, timeout: float = 60) -> int:
        """The exit code, or minus the signal that killed it; raises TimeoutError after killing the group."""
        late = not self.ended(timeout)
        if late:
            self.send(signal.SIGKILL)
        code = self._server.ask({"wait": self.pid})
        if late:
            raise TimeoutError(f"still running after {timeout} s: {self.output[-2000:]}")
        return code

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


class ForkServer:
    """Starts processes; `close` ends them and the server."""

    def __init__(self, folder: Path):
        self._logs = folder
        self._started: list[Forked] = []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/helpers'}"}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, request: dict[str, Any]) -> int:
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())

    def start(self, function: str, *arguments: Any, **environment: Any) -> Forked:
        """Runs ``function`` ("module:name") with ``arguments``; it ends with what that returns or raises."""
        log = self._logs / f"{len(self._started)}.log"
        log.touch()
        variables = {name: str(value) for name, value in environment.items()}
        request = {"function": function, "arguments": arguments, "environment": variables, "log": str(log)}
        self._started.append(Forked(self, self.ask(request), log))
        return self._started[-1]

    def train(self, *arguments: str, **environment: Any) -> Forked:
        """``python train.py arguments``."""
        return self.start("forked:command", "train", arguments, **environment)

    def close(self) -> None:
        for process in self._started:  # of tests that failed
            if not process.ended(0):
                process.send(signal.SIGKILL)
        self._server.stdin.close()
        self._server.wait()


def command(script: str, arguments: list[str]) -> None:
    """What running ``script`` does."""
    from ssiu.cli import entry_point

    sys.argv = [f"{script}.py", *arguments]
    entry_point(script)


def out_of_address_space(extra: int, arguments: list[str]) -> None:
    """Training where the process may map only ``extra`` bytes more."""
    from faults import limit_memory

    limit_memory(extra)
    command("train", arguments)


def small_disk(size: int, arguments: list[str], script: str = "train") -> None:
    """Training, or another command, where no file grows beyond ``size`` bytes; what it prints goes through a pipe."""
    from faults import limit_file_size

    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        while text := os.read(reader, 10_000):
            os.write(1, text)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    limit_file_size(size, kill=False)
    command(script, arguments)


def unprivileged(arguments: list[str]) -> None:
    """Training as a user whom permissions bind, also where the tests run as root."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    command("train", arguments)


def killed_in(module: str, moment: int, arguments: list[str]) -> None:
    """Training whose process group is killed at the ``moment``-th call or return in the code of ``module``."""
    place, seen = importlib.import_module(module).__file__, 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += frame.f_code.co_filename == place
        if seen == moment:
            os.killpg(0, signal.SIGKILL)

    sys.setprofile(profile)
    command("train", arguments)


def hung_up(step: int, arguments: list[str]) -> None:
    """Training in a terminal that is closed after ``step`` steps, as that of an ssh session that ends."""
    from ssiu.training.trainer import Trainer

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
    reader, terminal = os.openpty()
    terminal_emulator = os.fork()
    if terminal_emulator == 0:
        os.close(terminal)
        while text := os.read(reader, 10_000):
            os.write(1, text)
    os.close(reader)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(terminal, stream)
    os.close(terminal)
    train_step = Trainer.train_step

    def last_step(run: Trainer, batches: list) -> None:
        train_step(run, batches)
        if run.step == step:
            os.kill(terminal_emulator, signal.SIGKILL)
            os.waitpid(terminal_emulator, 0)
            while run.stop.signum is None:
                time.sleep(0.01)

    Trainer.train_step = last_step
    command("train", arguments)


def hung_disk(arguments: list[str]) -> None:
    """Training whose first save of a checkpoint never ends."""
    from ssiu.weights import checkpoint

    def write(path: Path, data: bytes) -> None:
        path.with_name(".ssiu-0123456789abcdef.part").write_bytes(data[:1000])
        time.sleep(600)

    checkpoint.write_atomically = write
    command("train", arguments)


def _serve() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            ready, started = os.pipe()
            answer = os.fork()
            if answer == 0:
                os.setsid()
                os.close(started)
                _become(request)
                return
            os.close(started)
            os.read(ready, 1)  # the process group exists
            os.close(ready)
        print(answer, flush=True)


def _become(request: dict[str, Any]) -> None:
    for stream, target in ((0, os.devnull), (1, request["log"]), (2, request["log"])):
        os.dup2(os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666), stream)
    os.environ.update(request["environment"])
    module, _, name = request["function"].partition(":")
    getattr(importlib.import_module(module), name)(*request["arguments"])


if __name__ == "__main__":
    _serve()

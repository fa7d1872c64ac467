"""A run's folder: its lock, ``config.yml``, ``log.txt``, ``metrics.jsonl``, TensorBoard and images."""

import contextlib
import json
import logging
import math
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ssiu.errors import OutputError, SaveError
from ssiu.files import held, make_folder, require_space, write_atomically, write_error
from ssiu.images.io import save_image
from ssiu.training.wandb_run import WandbRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("ssiu")

PATIENCE = 0.5  # seconds for the loader workers of a run that was just killed, which hold its lock until they notice
ROOM = 3  # checkpoints that must fit before a run starts: the last, the next and the best


class _LogFile(logging.FileHandler):
    """A log that cannot be opened or written ends the run: OutputError (73), SaveError (74)."""

    def _open(self) -> Any:
        try:
            return super()._open()
        except OSError as error:
            raise _unusable(error) from None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, logging's name
        raise SaveError(f"cannot write {self.baseFilename}: {sys.exc_info()[1]}; free some space and run again")


class RunFolder:
    """``{log_path}/{run name}``, held by one run at a time.

    The lock is the kernel's: it is gone when the process is, however it ended (on NFS as good as the server's).
    Raises OutputError (73) when the folder cannot be used and BusyError (75) when another run holds it.
    """

    def __init__(self, path: Path):
        self._new = not path.exists()
        self.path = make_folder(path)
        self.models = make_folder(path / "models")
        self.metrics_path = path / "metrics.jsonl"
        self._owner = path / ".owner"
        owner = self._owner.read_text(errors="replace") if self._owner.is_file() else "another process"
        in_use = f"{path} is in use by {owner}; wait for it, or choose another log_name"
        with contextlib.ExitStack() as lock:
            lock.enter_context(held(path / ".lock", path, in_use, "log_path", PATIENCE))
            _refuse_other_kinds(path)
            self._lock = lock.pop_all()
        write_atomically(self._owner, f"pid {os.getpid()} on {socket.gethostname()}".encode())
        self._file_handler = _LogFile(path / "log.txt", encoding="utf-8", errors="backslashreplace", delay=True)
        self._file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(self._file_handler)
        log.setLevel(logging.INFO)
        self._metrics: TextIO | None = None
        self._writer: SummaryWriter | None = None
        self._tracker: WandbRun | None = None

    @property
    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "config.yml").exists()

    def require_space(self, checkpoint: int) -> None:
        """Raises SaveError (74) when there is no room for three checkpoints of that many bytes."""
        needed = ROOM * checkpoint
        require_space(self.path, needed, f"a run with {ROOM} checkpoints", "free some space or set log_path")

    def open(self, config_yaml: str, step: int, validated: int, tracker: WandbRun | None = None) -> None:
        """Starts the logs at ``step``; ``metrics.jsonl`` is cut back to it, validations to ``validated``.

        ``tracker`` gets what ``metrics.jsonl`` gets, and the images of validations.
        """
        self._tracker = tracker
        from torch.utils.tensorboard import SummaryWriter  # a second of import that only training needs

        try:
            lines = self._lines_up_to(step, validated)
            write_atomically(self.path / "config.yml", config_yaml.encode())
            write_atomically(self.metrics_path, "".join(line + "\n" for line in lines).encode())
            self._metrics = self.metrics_path.open("a")
            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)
            self._writer.add_text("config", "".join(f"    {line}\n" for line in config_yaml.splitlines()), step)
        except OSError as error:
            raise _unusable(error) from None

    def _lines_up_to(self, step: int, validated: int) -> list[str]:
        if not self.metrics_path.exists():
            return []
        lines = []
        for line in self.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                if record["step"] > (validated if record["kind"] == "validation" else step):
                    break
            except (json.JSONDecodeError, KeyError, RecursionError, TypeError):
                break  # a line torn by a kill: it and what follows is written again
            lines.append(line)
        return lines

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line of ``metrics.jsonl`` and its numbers in TensorBoard.

        An infinite PSNR (equal images) and the loss of steps that fp16 skipped altogether are null. Raises SaveError
        (74) or OutputError (73) where the line cannot be written; without TensorBoard's files the run goes on.
        """
        values = {name: value if math.isfinite(value) else None for name, value in values.items()}
        assert self._metrics is not None, "`open` comes before"
        try:
            self._metrics.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise write_error(self.metrics_path, error, "free some space") from error
        if self._tracker:
            self._tracker.log(kind, step, values)
        try:
            for name, value in values.items():
                if self._writer and isinstance(value, (int, float)):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)
        except OSError as error:  # of its own thread, and so of every call from now on
            log.warning("TensorBoard gets no more numbers: %s; metrics.jsonl has them all", error)
            self._writer = None

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Replaces the images of the last validation: uint8 (H, W, 3) by ``set/name``, as PNG and in TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.path / "results" / "validation"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.path / "tensorboard" / "images", ignore_errors=True)
        with SummaryWriter(str(self.path / "tensorboard" / "images")) as writer:
            for name, image in images.items():
                make_folder((folder / name).parent)
                save_image(folder / f"{name}.png", image)
                writer.add_image(name, image, step, dataformats="HWC")
        if self._tracker:
            self._tracker.log_images(step, images)

    def close(self) -> None:
        """Ends the logs and gives the folder free."""
        if self._tracker:
            self._tracker.finish()
        log.removeHandler(self._file_handler)
        for opened in (self._file_handler, self._metrics, self._writer):
            if opened is not None:
                with contextlib.suppress(OSError):  # a full disk, which the write before has reported
                    opened.close()
        self._owner.unlink(missing_ok=True)
        if self._new and not self.holds_run:  # the start failed: as if it had not been
            (self.path / "log.txt").unlink(missing_ok=True)
            with contextlib.suppress(PermissionError):  # Windows removes no file that is open
                (self.path / ".lock").unlink(missing_ok=True)
            for folder in (self.models, self.path):
                with contextlib.suppress(OSError):  # something else lies there
                    folder.rmdir()
        self._lock.close()


def _refuse_other_kinds(folder: Path) -> None:
    """OutputError (73) where something else has a name of ours: a pipe would hang the run, a link lead out of it."""
    for name in ("config.yml", "log.txt", "metrics.jsonl", "models/last.pt", "models/best.pt"):
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_file()):
            kind = "a symbolic link" if path.is_symlink() else "not a file"
            raise OutputError(f"{path} is {kind}; move it away, or choose another log_name")
    for name in ("tensorboard", "results"):
        path = folder / name
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is not a folder; move it away, or choose another log_name")


def _unusable(error: OSError) -> OutputError:
    return OutputError(f"cannot write {error.filename}: {error.strerror}; move it away, or choose another log_name")

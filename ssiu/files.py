"""Writing files so that a reader, or a kill, never sees half of one."""

import contextlib
import csv
import errno
import io
import logging
import os
import secrets
import shutil
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from ssiu.errors import DISK_FULL, BusyError, MissingInputError, OutputError, SaveError, SSIUError

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where an open file can be neither removed nor renamed
    fcntl = None  # type: ignore[assignment]  # asked for before each use

log = logging.getLogger("ssiu")

PACKAGE = Path(__file__).resolve().parent
"""The folder of this package; in a clone its parent holds configs/ and pretrain_model/."""

TEMPORARY_SUFFIX = ".part"
NAME_REFUSED = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR)  # by the file system, whatever is free


def nonempty_path(text: str) -> Path:
    """``text`` of the command line as a path; an empty one would mean the current folder without saying so."""
    if not text:
        raise ArgumentTypeError("expected a name, got ''")
    return Path(text)


def make_folder(path: Path) -> Path:
    """Creates ``path`` and its parents; raises OutputError (73) when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the output folder {path}: {error.strerror}; choose another one") from None
    if not os.access(path, os.W_OK):
        raise OutputError(f"the output folder {path} is not writable; choose another one or change its permissions")
    return path


def docs_page(name: str) -> Path:
    """A page of docs/, of a clone or as it is installed; relative where the current folder is the clone."""
    page = next((docs / name for docs in (PACKAGE / "docs", PACKAGE.parent / "docs") if docs.is_dir()), Path(name))
    with contextlib.suppress(OSError, ValueError):  # the current folder was removed, or is another one
        return page.relative_to(Path.cwd())
    return page


def user_cache_folder(name: str) -> Path:
    """The folder for ``name`` in the user's cache, in the temporary folder for a user without a home.

    It may not exist yet.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container run with an id that its passwd does not know
        cache = Path(tempfile.gettempdir())
    return cache / "ssiu" / name


def csv_text(header: Sequence[object], lines: Iterable[Sequence[object]]) -> str:
    """A table as CSV, each line ended by a line feed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def size_text(count: float) -> str:
    """A number of bytes as people say it: ``3.5 GB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} bytes"


def require_space(folder: Path, needed: float, what: str, otherwise: str, kind: type[SSIUError] = SaveError) -> None:
    """Raises SaveError (74) when ``what`` needs more bytes than ``folder`` has; ``otherwise`` says what to do then."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise kind(f"{what} needs {size_text(needed)} in {folder} and {size_text(free)} are free: {otherwise}")


def require_file(path: Path, expected: str) -> None:
    """Raises MissingInputError (66) unless ``path`` is a file; ``expected`` is what of, for the message."""
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise MissingInputError(f"cannot read {path}: {error.strerror}; expected {expected}") from None
    if not found:
        raise MissingInputError(f"no file at {path.absolute()}; expected {expected}")


def refuse_folder(path: Path) -> None:
    """Raises OutputError (73) where a folder is in the place of the file ``path``, or no file can be called so."""
    try:
        found = path.is_dir()
    except OSError as error:  # a name that is too long
        raise write_error(path, error, "") from None
    if found:
        raise OutputError(f"{path} is a folder; rename it or choose another name for the file")


def write_atomically(
    path: Path, data: bytes | memoryview | Iterable[bytes | memoryview], overwrite: bool = True
) -> None:
    """Writes ``data`` or its parts to ``path``: temporary file beside it, fsync, rename, fsync of the folder.

    After a kill at any moment ``path`` holds either its old content or all of ``data``. Without ``overwrite`` the
    name is taken only if it is free at the end: FileExistsError, whoever took it meanwhile. A symbolic link at
    ``path`` and a name or folder that the system refuses are an OutputError (73); a failed write (disk full, quota)
    raises SaveError (74). The temporary file is removed.
    """
    temporary = None
    try:
        if path.is_symlink():
            raise OutputError(f"{path} is a symbolic link; refusing to write through it: remove or rename it")
        temporary, file = _create_locked(path.parent)
        with file:
            for part in [data] if isinstance(data, bytes | memoryview) else data:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()
            if overwrite:
                temporary.replace(path)
            else:
                _take_name(temporary, path)
        if fcntl is not None:  # Windows has no folders that can be opened
            with contextlib.suppress(OSError):  # the file is there; SMB, FUSE or a folder without read permission
                folder = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError) or isinstance(error, FileExistsError):
            raise
        needed = f"{len(data):,} bytes needed, " if isinstance(data, bytes | memoryview) else ""
        unchanged = "what was there before is unchanged: free some space and run the same command again"
        raise write_error(path, error, needed + unchanged) from error


def write_error(path: Path, error: OSError, when_full: str) -> SSIUError:
    """What the system says of writing ``path``, as SaveError (74) with that advice, or OutputError (73)."""
    if error.errno in DISK_FULL:
        return SaveError(f"cannot write {path}: {error.strerror}; {when_full}")
    other = "name" if error.errno in NAME_REFUSED else "folder"
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another {other}")


def _create_locked(folder: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file, locked for as long as it is open; its name is short whatever the final one is."""
    while True:
        path = folder / f".ssiu-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        file = path.open("xb")
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # else `remove_leftovers` of another run came between the two calls
            return path, file
        file.close()


def _take_name(temporary: Path, path: Path) -> None:
    """Renames ``temporary`` to ``path``; FileExistsError where that name is taken."""
    if fcntl is None:
        temporary.rename(path)  # on Windows this never replaces
        return
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as exFAT
        path.touch(exist_ok=False)
        temporary.replace(path)
    else:
        temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of killed runs from ``folder``; those of running ones are locked and stay."""
    for path in folder.glob(f".ssiu-*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:  # OSError: locked, or already gone
            if fcntl is not None:
                fcntl.flock(held.enter_context(path.open("r+b")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def contents(folder: Path, pattern: str = "*") -> set[str]:
    """What in ``folder`` fits ``pattern``, relative to it; not what begins with a dot, such as macOS's .DS_Store."""
    found = (path.relative_to(folder) for path in folder.glob(pattern))
    return {path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)}


@contextlib.contextmanager
def held(lock: Path, folder: Path, in_use: str, option: str, patience: float | None = 0.0) -> Iterator[None]:
    """Holds the kernel's ``lock`` of ``folder``, which is released when its holder dies.

    Raises BusyError (75) saying ``in_use`` when another process still holds it after ``patience`` seconds; None waits
    for as long as it takes and logs that instead. Raises OutputError (73) naming ``option`` where the file system has
    no locks.
    """
    file_lock = FileLock(lock)
    try:
        file_lock.acquire(timeout=patience or 0.0)
    except Timeout:
        if patience is not None:
            raise BusyError(in_use) from None
        log.info("%s", in_use)
        file_lock.acquire()
    except OSError as error:
        raise OutputError(f"cannot lock {folder}: {error.strerror}; choose a local folder with {option}") from None
    try:
        yield
    finally:
        file_lock.release()

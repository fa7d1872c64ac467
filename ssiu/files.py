"""Writing files so that a reader, or a kill, never sees half of one."""

import os
from collections.abc import Iterable
from pathlib import Path

from ssiu.errors import OutputError, SaveError

TEMPORARY_SUFFIX = ".part"


def make_folder(path: Path) -> Path:
    """Creates ``path`` and its parents; raises OutputError (73) when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the output folder {path}: {error.strerror}; choose another one") from None
    if not os.access(path, os.W_OK):
        raise OutputError(f"the output folder {path} is not writable; choose another one or change its permissions")
    return path


def user_cache_folder(name: str) -> Path:
    """The folder for ``name`` in the user's cache; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssiu" / name


def write_atomically(path: Path, data: bytes | memoryview | Iterable[bytes]) -> None:
    """Writes ``data`` or its parts to ``path``: temporary file beside it, fsync, rename, fsync of the folder.

    After a kill at any moment ``path`` holds either its old content or all of ``data``. A symbolic link
    at ``path`` is refused (OutputError, 73) and a failed write (disk full, quota) raises SaveError (74)
    after removing the temporary file.
    """
    if path.is_symlink():
        raise OutputError(f"{path} is a symbolic link; refusing to write through it: remove it or choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    written = 0
    try:
        with temporary.open("wb") as file:
            for part in [data] if isinstance(data, bytes | memoryview) else data:
                written += len(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SaveError(
            f"cannot write {path}: {error.strerror or error} ({written:,} bytes needed); "
            "what was there before is unchanged: free some space and run the same command again"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""A folder of files that together never pass a number of bytes, however many processes write: a cache with a bound."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ssiu.files import held, make_folder, remove_leftovers, write_atomically

ROOM = 0.1  # of the bound is made at a time: the whole folder is looked at for it
PATIENCE = 100.0  # seconds for the lock, which others hold for the writing of a file or two


class BoundedFolder:
    """The ``.npy`` files of ``folder``, ``limit`` bytes at most; those whose last visit is longest ago go first.

    The time of its last change tells when a file was visited. What is written is counted in a file before it is, with
    the lock held; a process that is killed may thus leave too much counted, until room is made the next time.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit
        self._count = folder / ".bytes"

    def visited(self, path: Path) -> None:
        """Notes a visit."""
        with suppress(FileNotFoundError):
            os.utime(path)

    def write(self, files: Mapping[Path, bytes]) -> None:
        """Writes those of ``files`` that are not there; none where they are more than the bound.

        Raises BusyError (75) when the lock does not become free, OutputError (73) and SaveError (74).
        """
        needed = sum(map(len, files.values()))
        if needed > self.limit:
            return
        in_use = f"the image cache {self.folder} was locked for {PATIENCE:.0f} s by another run"
        with held(make_folder(self.folder) / ".lock", self.folder, in_use, "cache_dir", PATIENCE):
            used = self._used()
            if used + needed > self.limit:
                used = self._make_room(needed)
            if used + needed <= self.limit:  # else something could not be removed
                self._count.write_text(str(used + needed))
                for path in files:
                    if not path.exists():
                        write_atomically(path, files[path])

    def _used(self) -> int:
        """The bytes that are there; more than the bound where nobody has counted yet."""
        try:
            return int(self._count.read_text())
        except (OSError, ValueError):
            return self.limit + 1

    def _make_room(self, needed: int) -> int:
        """Removes files until ``needed`` bytes fit, and some more; returns the bytes of those that stay."""
        remove_leftovers(self.folder)
        with os.scandir(self.folder) as entries:
            found = [(entry.stat(), entry.path) for entry in entries if entry.name.endswith(".npy")]
        used = sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda each: each[0].st_mtime_ns):
            if used + needed <= (1 - ROOM) * self.limit:
                break
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108  (thousands of them)
                used -= status.st_size
        return used

"""Takes chosen files out of a tar or zip archive that nobody has to be trusted for.

Nothing is ever written under a name from the archive: the caller says where each file goes, and only regular files
are written. An archive that tries to leave its folder, or has a link or a device among what is wanted, is refused.
"""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ssiu.download.http import require_space
from ssiu.errors import BadInputError
from ssiu.files import make_folder, write_error

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
DAMAGED += (NotImplementedError, RuntimeError)  # zipfile's

Member = tuple[str, bool, int, Callable[[], IO[bytes]]]
"""Name, whether it is a regular file, size in bytes, and what opens it."""


def unpack(archive: Path, place: Callable[[str], str | None], folder: Path) -> int:
    """Writes the members that ``place`` gives a path in ``folder`` for; returns how many.

    Raises BadInputError (65) for an archive that is damaged, cut short or hostile, SaveError (74) when the disk has no
    room for what the archive says it holds, OutputError (73) where it may not be written. After an error ``folder`` may
    hold some of the files.
    """
    written: set[str] = set()
    try:
        with archive.open("rb") as file:
            for name, regular, size, opened in _members(archive, file):
                target = place(name)
                if ".." in PurePosixPath(name.replace("\\", "/")).parts or name.startswith("/"):
                    raise BadInputError(f"{archive}: member {name!a:.100} points out of the archive; it is refused")
                if target is None:
                    continue
                if not regular:
                    raise BadInputError(f"{archive}: member {name!a:.100} is a link or a device; it is refused")
                if target in written:
                    raise BadInputError(f"{archive}: two members fit {target}; which one is meant?")
                written.add(target)
                require_space(archive.parent, size, f"unpacking {name!a:.100}")
                _write(opened, size, folder / target, f"{archive}: member {name!a:.100}")
    except DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise BadInputError(f"{archive} is damaged or no archive ({reason})") from None
    return len(written)


def _members(archive: Path, file: IO[bytes]) -> Iterator[Member]:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    mode = info.external_attr >> 16  # zero where the archive was not made on Unix
                    regular = stat.S_IFMT(mode) in (0, stat.S_IFREG)
                    yield info.filename, regular, info.file_size, lambda info=info: opened.open(info)
        return
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:*") as opened:
        for info in opened:
            if not info.isdir():
                yield info.name, info.isreg(), info.size, lambda info=info: opened.extractfile(info)
        while opened.fileobj.read(1 << 20):  # to the end, where gzip has the checksum of it all
            pass


def _write(opened: Callable[[], IO[bytes]], size: int, target: Path, what: str) -> None:
    make_folder(target.parent)
    with opened() as source:
        try:
            with target.open("xb") as file:
                shutil.copyfileobj(_Limited(source, size), file)
        except OSError as error:
            if error.errno is None:  # of the archive's reader, not of the disk
                raise
            raise write_error(target, error, "free some space and run it again") from None
    if target.stat().st_size != size:
        raise BadInputError(f"{what} has not the {size:,} bytes that the archive says")


class _Limited:
    """Reads at most one byte more than ``size``: a member cannot fill the disk beyond what was looked for."""

    def __init__(self, source: IO[bytes], size: int):
        self._source, self._left = source, size + 1

    def read(self, count: int) -> bytes:
        data = self._source.read(min(count, self._left))
        self._left -= len(data)
        return data

"""Takes chosen files out of a tar or zip archive that nobody has to be trusted for.

Of a member's path only the last part is used, so nothing is written outside the folders that the caller names.
"""

import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ssiu.errors import BadInputError, SSIUError, quoted
from ssiu.files import make_folder, require_space, write_error


def unpack(archive: Path, wanted: Mapping[str, Path]) -> None:
    """Writes the members whose path ends as a key of ``wanted`` says, with wildcards, into the folder it has there.

    Hidden files are passed over. Raises BadInputError (65) for an archive that is damaged, or where a member that is
    wanted is a link or a device or there twice, SaveError (74) when the disk has no room, OutputError (73) where it may
    not be written. After an error the folders may hold some of the files.
    """
    try:
        for name, regular, size, opened in _members(archive):
            file = Path(name).name
            folder = next((wanted[ending] for ending in wanted if PurePosixPath(name).match(ending)), None)
            if folder is None or file.startswith("."):
                continue
            if not regular:
                raise BadInputError(f"{archive}: member {quoted(name, 100)} is a link or a device; it is refused")
            require_space(make_folder(folder), size, f"unpacking {file}", "free some space and run it again")
            target = folder / file
            try:
                with opened() as source, target.open("xb") as written:
                    shutil.copyfileobj(source, written)
            except FileExistsError:
                raise BadInputError(f"{archive}: two members are called {file}; which is meant?") from None
            except OSError as error:
                if error.errno is None:  # of the archive's reader, not of the disk
                    raise
                raise write_error(target, error, "free some space and run it again") from None
    except SSIUError:
        raise
    except Exception as error:  # the readers of archives have more kinds than they document
        raise BadInputError(f"{archive} is damaged or not an archive ({quoted(error, 100)})") from None


def _members(archive: Path) -> Iterator[tuple[str, bool, int, Callable[[], IO[bytes]]]]:
    """Name, whether it is a regular file, size in bytes, and what opens it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)  # zero where the archive was not made on Unix
                yield info.filename, kind in (0, stat.S_IFREG), info.file_size, partial(opened.open, info)
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                yield member.name, member.isreg(), member.size, partial(_of_tar, tar, member)
            while tar.fileobj.read(1 << 20):  # to the end, where gzip has the checksum of it all
                pass


def _of_tar(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return tar.extractfile(member) or io.BytesIO()  # None for what is no regular file

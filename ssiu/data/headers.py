"""What the headers of image files say; of a large set it is remembered, so that training on it starts at once."""

import io
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ssiu.errors import MissingInputError
from ssiu.files import make_folder, write_atomically
from ssiu.images.decoding import MAX_PIXELS
from ssiu.images.io import image_size
from ssiu.progress import Progress

READERS = 16  # threads for a network disk, where the wait is latency
LATENCY = 300e-6  # seconds a file: below it is no such disk, and the threads would only wait for the interpreter's lock
CHUNK = 256  # files read at a time
PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"


def image_headers(files: Sequence[str], index: Path | None = None) -> np.ndarray:
    """Size in bytes, time of the last change (ns), height and width in pixels as shown of each file, int64 (n, 4).

    ``index`` is a file that remembers them: only those that are new or have changed are read, and it is written anew.
    Raises MissingInputError (66) and BadInputError (65) as `image_size` does, OutputError (73) and SaveError (74).
    """
    headers = np.zeros((len(files), 4), np.int64)
    headers[:, :2] = _of_each(_status, files)
    known = _read_index(index, files) if index else np.zeros_like(headers)
    headers[:, 2:] = known[:, 2:]
    new = np.flatnonzero((headers[:, :2] != known[:, :2]).any(axis=1))
    headers[new, 2:] = _of_each(_image_size, [files[each] for each in new.tolist()])
    if index and len(new):
        _write_index(index, files, headers)
    return headers


def _of_each(read: Callable[[str], tuple[int, int]], files: Sequence[str]) -> np.ndarray:
    """Both numbers of every file, int64 (n, 2)."""
    found = np.zeros((len(files), 2), np.int64)
    starts = iter(range(0, len(files), CHUNK))

    def read_chunk(start: int) -> int:
        chunk = files[start : start + CHUNK]
        found[start : start + CHUNK] = [read(file) for file in chunk]
        return len(chunk)

    with (
        ThreadPoolExecutor(READERS) as pool,
        Progress(total=len(files), desc="reading headers", unit="images", leave=False) as progress,
    ):
        for start in starts:
            begin = time.perf_counter()
            progress.update(read_chunk(start))
            if time.perf_counter() - begin > CHUNK * LATENCY:
                break
        for count in pool.map(read_chunk, starts):
            progress.update(count)
    return found


def _status(file: str) -> tuple[int, int]:
    try:
        status = os.stat(file)  # noqa: PTH116  (paths would take most of the time)
    except OSError as error:
        raise MissingInputError(f"{file}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        image_size(Path(file))  # says what it is
    return status.st_size, status.st_mtime_ns


def _image_size(file: str) -> tuple[int, int]:
    """`image_size`, of PNG files without Pillow, which takes ten times as long."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            head = opened.read(len(PNG_HEADER) + 8)
    except OSError as error:
        raise MissingInputError(f"{file}: cannot be read ({error.strerror})") from None
    if head.startswith(PNG_HEADER) and len(head) == len(PNG_HEADER) + 8:
        width, height = struct.unpack(">II", head[len(PNG_HEADER) :])
        if 0 < width * height <= MAX_PIXELS:
            return height, width
    return image_size(Path(file))


def _read_index(path: Path, files: Sequence[str]) -> np.ndarray:
    """What is remembered of each file, int64 (n, 4); zeros where that is nothing: no index, or a damaged one."""
    known = np.zeros((len(files), 4), np.int64)
    try:
        with np.load(path) as stored:
            headers, names = stored["headers"], stored["files"].tobytes().decode("utf-8", "surrogateescape").split("\0")
        if names == files:
            known[:] = headers
        else:
            row_of = {name: row for row, name in enumerate(names)}
            rows = np.array([row_of.get(file, -1) for file in files])
            known[rows >= 0] = headers[rows[rows >= 0]]
    except Exception:  # NumPy and zipfile raise many kinds
        known[:] = 0
    return known


def _write_index(path: Path, files: Sequence[str], headers: np.ndarray) -> None:
    make_folder(path.parent)
    buffer = io.BytesIO()
    names = "\0".join(files).encode("utf-8", "surrogateescape")
    np.savez(buffer, files=np.frombuffer(names, np.uint8), headers=headers)
    write_atomically(path, buffer.getvalue())

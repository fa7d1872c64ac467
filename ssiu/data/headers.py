"""What the headers of image files say, for sets of any size."""

import os
import stat
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ssiu.errors import MissingInputError
from ssiu.images.decoding import MAX_PIXELS
from ssiu.images.io import image_size
from ssiu.progress import Progress

READERS = 16  # threads: on network disks the wait is latency
CHUNK = 256  # files that one of them reads at a time
PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"


class Header(NamedTuple):
    """The size of a file in bytes, and that of its image in pixels as shown."""

    bytes: int
    height: int
    width: int


def image_headers(files: Sequence[str]) -> list[Header]:
    """The header of each file. Raises MissingInputError (66) and BadInputError (65) as `image_size` does."""
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    headers: list[Header] = []
    with (
        ThreadPoolExecutor(READERS) as pool,
        Progress(total=len(files), desc="reading headers", unit="images", leave=False) as progress,
    ):
        for found in pool.map(lambda chunk: [_header(file) for file in chunk], chunks):
            headers += found
            progress.update(len(found))
    return headers


def _header(file: str) -> Header:
    """Of most PNG files without Pillow, which takes ten times as long: 200,000 of them are read in seconds."""
    head = b""
    try:
        status = os.stat(file)  # noqa: PTH116  (paths would take most of the time)
        if stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            with open(file, "rb") as opened:  # noqa: PTH123
                head = opened.read(len(PNG_HEADER) + 8)
    except OSError as error:
        raise MissingInputError(f"{file}: cannot be read ({error.strerror})") from None
    if head.startswith(PNG_HEADER) and len(head) == len(PNG_HEADER) + 8:
        width, height = struct.unpack(">II", head[len(PNG_HEADER) :])
        if 0 < width * height <= MAX_PIXELS:
            return Header(status.st_size, height, width)
    return Header(status.st_size, *image_size(Path(file)))

"""PNG by hand, where Pillow does less: every checksum and row is verified, and 16-bit colours are written."""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PIECE = 1 << 14  # bytes that are inflated at a time, to a thousand times as many at most
MAX_TEXT = PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # bytes; the default refuses sound files
BAND = 64  # rows that are compressed at a time

Chunk = tuple[bytes, memoryview]  # its kind and what it holds


def read_chunks(content: bytes) -> list[Chunk]:
    """All chunks up to IEND; ValueError where one is cut or its checksum is wrong."""
    chunks: list[Chunk] = []
    position = len(SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        header = content[position : position + 8]
        if len(header) < 8:
            raise ValueError("ends without IEND, truncated")
        length, kind = struct.unpack(">I4s", header)
        summed = memoryview(content)[position + 4 : position + 8 + length]
        stored = content[position + 8 + length : position + 12 + length]
        if len(stored) < 4 or zlib.crc32(summed) != int.from_bytes(stored, "big"):
            raise ValueError(f"checksum of the chunk at byte {position} is wrong")
        chunks.append((kind, summed[4:]))
        position += 12 + length
    return chunks


def check_rows(chunks: Sequence[Chunk]) -> int:
    """Returns the bit depth; ValueError where rows or the palette are missing, which Pillow would fill with black."""
    kind, header = chunks[0]
    if kind != b"IHDR":
        raise ValueError("does not begin with IHDR")
    width, height, depth, colour, interlaced = struct.unpack_from(">IIBBxxB", header)
    if colour == 3 and not any(kind == b"PLTE" for kind, _ in chunks):
        raise ValueError("its palette is missing")
    missing = sum(
        math.ceil((height - y) / dy) * (1 + math.ceil(math.ceil((width - x) / dx) * CHANNELS[colour] * depth / 8))
        for x, y, dx, dy in (ADAM7 if interlaced else ((0, 0, 1, 1),))
        if width > x and height > y
    )  # bytes: each row has its filter's number in front
    inflate = zlib.decompressobj()
    for body in (body for kind, body in chunks if kind == b"IDAT"):
        for start in range(0, len(body), PIECE):
            missing -= len(inflate.decompress(body[start : start + PIECE]))
            if missing <= 0:
                return depth
    raise ValueError(f"the last {missing:,} bytes of its rows are missing")


def read_text(kind: bytes, body: bytes) -> bytes:
    """What a tEXt, zTXt or iTXt chunk says under its keyword; ValueError or zlib.error where it is damaged."""
    said = body.partition(b"\0")[2]
    compressed = kind == b"zTXt"
    if kind == b"iTXt":
        compressed = said[:1] == b"\1"
        _, _, said = said[2:].split(b"\0", 2)  # language, the keyword in it
    elif compressed:
        said = said[1:]
    return zlib.decompressobj().decompress(said, MAX_TEXT) if compressed else said


def encode(pixels: np.ndarray, chunks: bytes) -> Iterator[bytes]:
    """The parts of a file of (H, W, C) uint8 or uint16, in half of Pillow's time and without a copy of the image.

    ``chunks`` stand before the pixels.
    """
    height, width, channels = pixels.shape
    pixel_bytes = channels * pixels.itemsize
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, COLOUR_TYPE[channels], 0, 0, 0)
    yield SIGNATURE + chunk(b"IHDR", header) + chunks
    deflate = zlib.compressobj(3, strategy=zlib.Z_FILTERED)
    above = np.zeros((1, width * pixel_bytes), np.uint8)
    for top in range(0, height, BAND):
        rows = pixels[top : top + BAND].astype(f">u{pixels.itemsize}")  # big-endian
        rows = rows.view(np.uint8).reshape(len(rows), -1)  # (rows, bytes of a row)
        left = np.pad(rows, ((0, 0), (pixel_bytes, 0)))[:, :-pixel_bytes]
        up = np.concatenate([above, rows[:-1]])
        average = (left & up) + ((left ^ up) >> 1)  # (left + up) // 2 without overflow: PNG's filter 3
        filtered = np.pad(rows - average, ((0, 0), (1, 0)), constant_values=3)
        above = rows[-1:]
        if data := deflate.compress(filtered.data):
            yield chunk(b"IDAT", data)
    yield chunk(b"IDAT", deflate.flush()) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """With its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))

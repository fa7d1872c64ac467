"""TIFF by hand: what the decoders would not give exactly, the directories of tags, which EXIF has too, and writing.

Pillow decodes up to 8 bits and OpenCV 16. Neither writes 16-bit colours together with EXIF.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    EXTRASAMPLES,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
    ImageFileDirectory_v2,
)
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION as PHOTOMETRIC

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0")
READ8 = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "JPEG", 7: "JPEG", 8: "Deflate", 32773: "PackBits"}
READ8 |= {32946: "Deflate", 34925: "LZMA", 50000: "Zstandard"}  # compressions that Pillow's wheels decode
READ16 = {1, 5, 8, 32773, 32946}  # and those of OpenCV
OTHERS = {34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
SAMPLE_FORMATS = {2: ", signed", 3: ", floating point", 5: ", complex", 6: ", complex"}  # 1 and 4: unsigned
COLOURS = {0: "gray", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes, by type of value
BYTE, SHORT, LONG, UNDEFINED = 1, 3, 4, 7  # types
BAND = 64  # rows in a strip
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965  # tags whose value is the offset of another directory
DESCRIPTIVE = {269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432, EXIF, GPS}
DESCRIPTIVE |= set(range(40091, 40096))  # tags of the image rather than of its samples; these are Windows' XP...
MAX_DESCRIPTION = 1 << 24  # bytes, of all such values together


def read_tags(file: BinaryIO) -> ImageFileDirectory_v2:
    """The tags of the first image; fails in many ways where they are damaged, or those of a big-endian BigTIFF."""
    file.seek(0)
    head = file.read(8)
    tags = ImageFileDirectory_v2(head + file.read(8) if 43 in head[2:4] else head)  # 43: BigTIFF
    file.seek(tags.next)
    tags.load(file)
    return tags


def colours(tags: Mapping[int, Any]) -> str:
    """What its samples are."""
    kind = COLOURS.get(tags[PHOTOMETRIC], f"photometric interpretation {tags[PHOTOMETRIC]}")
    bits, samples = max(tags.get(BITSPERSAMPLE, (1,))), tags.get(SAMPLESPERPIXEL, 1)
    return f"a TIFF of {bits} bits, {kind}, {samples} samples a pixel"


def tile(tags: Mapping[int, Any]) -> tuple[int, int]:
    """(width, height) of its tiles, each decoded as a whole; (0, 0) without tiles."""
    return tags.get(TILEWIDTH, 0), tags.get(TILELENGTH, 0)


def problem(tags: Mapping[int, Any]) -> str | None:
    """What is not decoded exactly; None if there is nothing."""
    bits, formats = tags.get(BITSPERSAMPLE, (1,)), tags.get(SAMPLEFORMAT, (1,))
    compression = tags.get(COMPRESSION, 1)
    known = READ8.keys() if max(bits) < 16 else READ16
    if compression not in known:
        name = (READ8 | OTHERS).get(compression, f"method {compression}")
        expected = ", ".join(dict.fromkeys(READ8[code] for code in READ8 if code in known))
        return f"a TIFF of {max(bits)} bits compressed by {name}; expected {expected}"
    if TILEWIDTH in tags and TILEOFFSETS not in tags:
        return "a TIFF whose tiles are listed as strips; expected tags of tiles"
    if len(set(bits)) > 1 or bits[0] not in (1, 2, 4, 8, 16) or not set(formats) <= {1, 4}:
        return f"{max(bits)} bits per sample{SAMPLE_FORMATS.get(formats[0], '')}"
    if bits[0] < 16:
        return None
    samples = tags.get(SAMPLESPERPIXEL, 1)
    if (tags.get(PHOTOMETRIC), samples) not in ((0, 1), (1, 1), (2, 3), (2, 4)):
        return colours(tags)
    if samples > 1 and tags.get(PLANAR_CONFIGURATION) == 2:
        return "a TIFF of 16 bits in separate planes"
    return "a TIFF of 16 bits with premultiplied alpha" if 1 in tags.get(EXTRASAMPLES, ()) else None


class Entry(NamedTuple):
    """Of a directory: where it stands, and where its value does."""

    tag: int
    type: int
    position: int
    start: int
    end: int


def byte_order(data: bytes) -> str:
    """As `struct` names it."""
    return "<" if data[:2] == b"II" else ">"


def number(value: bytes, order: str) -> int:
    """Of a SHORT, LONG or another type without a sign."""
    return int.from_bytes(value, "little" if order == "<" else "big")


def read_directory(data: bytes, at: int | None = None) -> tuple[list[Entry], int]:
    """The entries of the directory at ``at`` (default: the first), and where the offset of the next one stands.

    struct.error where it lies outside of ``data``, as a value may.
    """
    if data[:4] not in SIGNATURES:
        raise struct.error("does not begin as a TIFF")
    order = byte_order(data)
    count, head, offset = ("Q", "HHQ", "Q") if 43 in data[2:4] else ("H", "HHI", "I")  # 43: BigTIFF
    room = struct.calcsize(offset)
    if at is None:
        at = struct.unpack_from(order + offset, data, room)[0]
    if at > len(data):
        raise struct.error("a directory outside of the file")
    entries, position = [], at + struct.calcsize(count)
    for _ in range(min(struct.unpack_from(order + count, data, at)[0], 1 << 16)):
        tag, kind, length = struct.unpack_from(order + head, data, position)
        start = position + struct.calcsize(order + head)
        size = SIZES.get(kind, 0) * length
        if size > room:
            start = struct.unpack_from(order + offset, data, start)[0]
        entries.append(Entry(tag, kind, position, start, start + size))
        position += struct.calcsize(order + head) + room
    struct.unpack_from(order + offset, data, position)
    return entries, position


def pack_directory(values: Mapping[int, tuple[int, bytes]], order: str, at: int) -> bytes:
    """The directory at ``at`` with these values, (type, bytes) by tag, which follow it where they are long."""
    entries, behind = bytearray(), bytearray()
    for tag, (kind, value) in sorted(values.items()):
        entries += struct.pack(order + "HHI", tag, kind, len(value) // SIZES[kind])
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", at + 2 + 12 * len(values) + 4 + len(behind))
            behind += value + bytes(len(value) % 2)
    return struct.pack(order + "H", len(values)) + bytes(entries + bytes(4) + behind)


def description(data: bytes) -> bytes | None:
    """What a TIFF says of its image, EXIF and GPS among it, as a TIFF without samples; None if it says nothing.

    ValueError where that is more than MAX_DESCRIPTION, struct.error where a directory lies outside of ``data``.
    """
    order, block = byte_order(data), bytearray(8)

    def values(at: int | None, pointers: Mapping[int, Any]) -> dict[int, tuple[int, bytes]]:
        entries = [entry for entry in read_directory(data, at)[0] if entry.type in SIZES and entry.end <= len(data)]
        if at is None:
            entries = [entry for entry in entries if entry.tag in DESCRIPTIVE]
        if len(block) + sum(entry.end - entry.start for entry in entries) > MAX_DESCRIPTION:
            raise ValueError(f"more than {MAX_DESCRIPTION} bytes")
        found = {entry.tag: (entry.type, data[entry.start : entry.end]) for entry in entries}
        for pointer in found.keys() & pointers.keys():
            inner = values(number(found[pointer][1], order), pointers[pointer])
            found[pointer] = (LONG, struct.pack(order + "I", len(block)))
            block.extend(pack_directory(inner, order, len(block)))
        return found

    outer = values(None, {EXIF: {INTEROPERABILITY: {}}, GPS: {}})
    block[:8] = data[:2] + struct.pack(order + "HI", 42, len(block))
    return bytes(block + pack_directory(outer, order, len(block))) if outer else None


def encode(pixels: np.ndarray, exif: bytes | None, others: Mapping[int, tuple[int, bytes]]) -> Iterator[bytes]:
    """The parts of a file of (H, W, C) uint8 or uint16, deflated, with ``others``: (type, value) by tag.

    ``exif``, itself a TIFF, becomes the beginning of the file, so that all offsets in it stay right, those of a
    camera's notes too; the descriptive tags of its first directory join those of the samples.
    """
    exif = exif or struct.pack("<2sHIHI", b"II", 42, 8, 0, 0)
    order = byte_order(exif)
    height, width, channels = pixels.shape
    described = [entry for entry in read_directory(exif)[0] if entry.tag in DESCRIPTIVE and entry.end <= len(exif)]

    def numbers(letter: str, *found: int) -> tuple[int, bytes]:
        return {"H": SHORT, "I": LONG}[letter], struct.pack(f"{order}{len(found)}{letter}", *found)

    strips = []
    for top in range(0, height, BAND):
        rows = np.diff(pixels[top : top + BAND], axis=1, prepend=pixels.dtype.type(0))  # predictor 2
        strips.append(zlib.compress(rows.astype(f"{order}u{pixels.itemsize}").tobytes(), 3))
    values = {entry.tag: (entry.type, exif[entry.start : entry.end]) for entry in described if entry.type in SIZES}
    values |= others
    values |= {
        256: numbers("I", width),
        257: numbers("I", height),
        BITSPERSAMPLE: numbers("H", *channels * [8 * pixels.itemsize]),
        COMPRESSION: numbers("H", 8),
        PHOTOMETRIC: numbers("H", 1 if channels < 3 else 2),
        SAMPLESPERPIXEL: numbers("H", channels),
        278: numbers("I", BAND),
        279: numbers("I", *map(len, strips)),
        317: numbers("H", 2),
    }
    if channels in (2, 4):
        values[EXTRASAMPLES] = numbers("H", 2)  # alpha that is not premultiplied
    at = len(exif) + len(exif) % 2
    first = at + len(pack_directory(values | {273: numbers("I", *map(len, strips))}, order, at))
    offsets = first + np.cumsum([0, *map(len, strips[:-1])])
    values[273] = numbers("I", *offsets.tolist())
    yield exif[:4] + struct.pack(order + "I", at) + exif[8:].ljust(at - 8, b"\0")
    yield pack_directory(values, order, at)
    yield from strips

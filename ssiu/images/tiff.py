"""What a TIFF's tags say that the decoders would not give exactly: Pillow up to 8 bits, OpenCV 16."""

from collections.abc import Mapping
from typing import Any, BinaryIO

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

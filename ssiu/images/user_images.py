"""Images as people have them: gray, RGB or palette, with alpha or not, 8 or 16 bits, turned, with a colour profile.

Training and test images must be 8-bit RGB (`ssiu.images.io.read_rgb`); here what a file holds is kept as it is.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from ssiu.errors import OutputError
from ssiu.files import write_atomically
from ssiu.images.decoding import MAX_PIXELS, PHOTOGRAPHS, PNG_SIGNATURE, decode
from ssiu.images.io import IMAGE_SUFFIXES, read_bytes

LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "BMP": 2**31 - 1, "TIFF": 2**31 - 1, "PNG": 2**31 - 1}
WITH_ALPHA = ("PNG", "WEBP", "TIFF")
SIXTEEN_BIT = ("PNG", "TIFF")
PNG_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
BAND = 64  # rows that are compressed at a time


@dataclass(frozen=True)
class DecodedImage:
    """An image as shown, in memory.

    pixels: (H, W, C) uint8 or uint16; C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha, which is not premultiplied.
    icc_profile: what the colours mean; None is sRGB.
    """

    pixels: np.ndarray
    icc_profile: bytes | None = None


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decodes a PNG, JPEG, WebP, BMP or TIFF of any size up to ``max_pixels``, turned as its EXIF orientation says.

    Raises MissingInputError (66), or BadInputError (65) naming the file; `ssiu.images.decoding.decode` says for what.
    """
    turned = (*PHOTOGRAPHS, "PNG")  # data sets show PNG as it is stored
    return DecodedImage(*decode(path, read_bytes(path, max_pixels), max_pixels, turned))


def check_can_hold(suffix: str, height: int, width: int, channels: int, dtype: np.dtype) -> None:
    """Raises OutputError (73) where a file of this suffix cannot hold such an image without losing something."""
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise OutputError(f"cannot write images as '{suffix}'; known: {', '.join(IMAGE_SUFFIXES)}")
    kind = IMAGE_SUFFIXES[suffix.lower()][0]
    if max(height, width) > LONGEST_SIDE[kind]:
        raise OutputError(f"{kind} holds at most {LONGEST_SIDE[kind]} pixels a side, not {width}x{height}; write png")
    if channels in (2, 4) and kind not in WITH_ALPHA:
        raise OutputError(f"{kind} cannot hold transparency; write png, webp or tiff")
    if dtype == np.uint16 and kind not in SIXTEEN_BIT:
        raise OutputError(f"{kind} cannot hold 16 bits per channel; write png or tiff")


def write_image(path: Path, image: DecodedImage, overwrite: bool = True) -> None:
    """Writes ``image`` atomically in the format of ``path``'s suffix; lossless except JPEG (quality 95, 4:4:4).

    PNG takes no memory beyond the image's; BMP has no place for a colour profile, and that of a gray image is left out
    where gray becomes RGB: WebP, and 16 bits with alpha in TIFF. Raises OutputError (73) for a format that cannot hold
    it or a symbolic link at ``path``, SaveError (74) when writing fails, FileExistsError where ``path`` is taken and
    ``overwrite`` is off.
    """
    pixels, icc_profile = image.pixels, image.icc_profile
    check_can_hold(path.suffix, *pixels.shape, pixels.dtype)
    kind, options = IMAGE_SUFFIXES[path.suffix.lower()]
    if kind == "PNG":
        write_atomically(path, _encode_png(pixels, icc_profile), overwrite)
        return
    buffer = io.BytesIO()
    becomes_rgb = kind == "WEBP" or (pixels.dtype == np.uint16 and pixels.shape[2] == 2)
    if becomes_rgb and icc_profile and icc_profile[16:20] == b"GRAY":  # the colours that it describes
        icc_profile = None
    if pixels.dtype == np.uint16:
        pixels = pixels[..., [0, 0, 0, 1]] if pixels.shape[2] == 2 else pixels  # few programs read gray with alpha
        tifffile.imwrite(
            buffer,
            pixels if pixels.shape[2] > 1 else pixels[..., 0],
            photometric="rgb" if pixels.shape[2] > 1 else "minisblack",
            extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
            compression="zlib",
            iccprofile=icc_profile,
            metadata=None,
        )
    else:
        encoded = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        encoded.save(buffer, kind, icc_profile=icc_profile, exact=True, **options)  # exact: WebP, hidden colours too
    write_atomically(path, buffer.getbuffer(), overwrite)


def _encode_png(pixels: np.ndarray, icc_profile: bytes | None) -> Iterator[bytes]:
    """The parts of a PNG file; written here because Pillow has no 16-bit colours and needs a copy of the image."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))

    height, width, channels = pixels.shape
    pixel_bytes = channels * pixels.itemsize
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, PNG_COLOUR_TYPE[channels], 0, 0, 0)
    yield PNG_SIGNATURE + chunk(b"IHDR", header)
    if icc_profile:
        yield chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
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
        if data := deflate.compress(filtered):
            yield chunk(b"IDAT", data)
    yield chunk(b"IDAT", deflate.flush()) + chunk(b"IEND", b"")

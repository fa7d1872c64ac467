"""Encoding images: what each format can hold, and its bytes."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import tifffile
from PIL import Image

from ssiu.errors import OutputError
from ssiu.images.decoding import PNG_SIGNATURE, DecodedImage

IMAGE_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},  # exact: hidden colours too
    "BMP": {},
    "TIFF": {"compression": "tiff_deflate"},
}  # of Pillow
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "BMP": 2**31 - 1, "TIFF": 2**31 - 1, "PNG": 2**31 - 1}
WITH_ALPHA = ("PNG", "WEBP", "TIFF")
SIXTEEN_BIT = ("PNG", "TIFF")
PNG_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
BAND = 64  # rows that are compressed at a time


def check_can_hold(suffix: str, height: int, width: int, channels: int, dtype: np.dtype) -> None:
    """Raises OutputError (73) where a file of this suffix cannot hold such an image without losing something."""
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise OutputError(f"cannot write images as '{suffix}'; known: {', '.join(IMAGE_SUFFIXES)}")
    kind = IMAGE_SUFFIXES[suffix.lower()]
    if max(height, width) > LONGEST_SIDE[kind]:
        raise OutputError(f"{kind} holds at most {LONGEST_SIDE[kind]} pixels a side, not {width}x{height}; write png")
    if channels in (2, 4) and kind not in WITH_ALPHA:
        raise OutputError(f"{kind} cannot hold transparency; write png, webp or tiff")
    if dtype == np.uint16 and kind not in SIXTEEN_BIT:
        raise OutputError(f"{kind} cannot hold 16 bits per channel; write png or tiff")


def encode(image: DecodedImage, suffix: str) -> Iterable[bytes | memoryview]:
    """The parts of a file of this suffix; lossless except JPEG (quality 95, 4:4:4).

    PNG takes no memory beyond the image's; BMP has no place for a colour profile, and that of a gray image is left out
    where gray becomes RGB: WebP, and 16 bits with alpha in TIFF. Raises OutputError (73) as `check_can_hold` does.
    """
    pixels, icc_profile = image.pixels, image.icc_profile
    check_can_hold(suffix, *pixels.shape, pixels.dtype)
    kind = IMAGE_SUFFIXES[suffix.lower()]
    if kind == "PNG":
        return _png(pixels, icc_profile)
    becomes_rgb = kind == "WEBP" or (pixels.dtype == np.uint16 and pixels.shape[2] == 2)
    if becomes_rgb and icc_profile and icc_profile[16:20] == b"GRAY":  # the colours that it describes
        icc_profile = None
    buffer = io.BytesIO()
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
        encoded.save(buffer, kind, icc_profile=icc_profile, **OPTIONS[kind])
    return [buffer.getbuffer()]


def _png(pixels: np.ndarray, icc_profile: bytes | None) -> Iterator[bytes]:
    """Written here because Pillow has no 16-bit colours, needs a copy of the image and takes twice the time."""

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

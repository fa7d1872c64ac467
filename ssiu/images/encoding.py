"""Encoding images: what each format can hold, and its bytes."""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from ssiu.errors import OutputError
from ssiu.images import png, tiff
from ssiu.images.decoding import DecodedImage
from ssiu.images.metadata import (
    ICC_TAG,
    IPTC_TAG,
    XMP_HEADER,
    XMP_KEYWORD,
    XMP_TAG,
    Metadata,
    iptc_resource,
    raw_profile,
)

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
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},  # exact: hidden colours too
    "BMP": {},
}  # of Pillow
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "BMP": 2**31 - 1, "TIFF": 2**31 - 1, "PNG": 2**31 - 1}
WITH_ALPHA = ("PNG", "WEBP", "TIFF")
SIXTEEN_BIT = ("PNG", "TIFF")
LARGEST_TIFF = 2**32 - 2**27  # bytes of pixels: deflating may add a little
MOST = 1 << 24
HOLDS: dict[str, dict[str, int]] = {
    "PNG": {"icc_profile": MOST, "exif": MOST, "xmp": MOST, "iptc": MOST, "text": png.MAX_TEXT},
    "JPEG": {"icc_profile": MOST - (1 << 17), "exif": 65_527, "xmp": 65_504, "iptc": 65_506},
    "WEBP": {"icc_profile": MOST, "exif": MOST, "xmp": MOST},
    "BMP": {},
    "TIFF": {"icc_profile": MOST, "exif": MOST, "xmp": MOST, "iptc": MOST},
}  # bytes at most, besides the pixels


def check_can_hold(suffix: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises OutputError (73) where a file of this suffix cannot hold (H, W, C) pixels without losing something."""
    height, width, channels = shape
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise OutputError(f"cannot write images as '{suffix}'; known: {', '.join(IMAGE_SUFFIXES)}")
    kind = IMAGE_SUFFIXES[suffix.lower()]
    if max(height, width) > LONGEST_SIDE[kind]:
        raise OutputError(f"{kind} holds at most {LONGEST_SIDE[kind]} pixels a side, not {width}x{height}; write png")
    if channels in (2, 4) and kind not in WITH_ALPHA:
        raise OutputError(f"{kind} cannot hold transparency; write png, webp or tiff")
    if dtype == np.uint16 and kind not in SIXTEEN_BIT:
        raise OutputError(f"{kind} cannot hold 16 bits per channel; write png or tiff")
    if kind == "TIFF" and height * width * channels * dtype.itemsize > LARGEST_TIFF:
        raise OutputError(f"TIFF holds at most 4 GB, not {width}x{height} of {channels} channels; write png")


def fit(image: DecodedImage, suffix: str) -> tuple[DecodedImage, list[str]]:
    """``image`` with the colour profile and the metadata that a file of this suffix holds, and what is left out."""
    kind = IMAGE_SUFFIXES[suffix.lower()]
    held: dict[str, bytes | None] = {"icc_profile": image.icc_profile, **vars(image.metadata)}
    left_out = []
    becomes_rgb = kind == "WEBP" or (kind == "TIFF" and image.pixels.dtype == np.uint16 and image.pixels.shape[2] == 2)
    if becomes_rgb and image.icc_profile and image.icc_profile[16:20] == b"GRAY":  # the colours that it describes
        held["icc_profile"] = None
        left_out.append("the colour profile of gray, which becomes RGB")
    for name, value in held.items():
        most = HOLDS[kind].get(name, 0)
        if value and len(value) > most:
            held[name] = None
            title = {"icc_profile": "colour profile", "text": "PNG text"}.get(name, name.upper())
            left_out.append(f"{title}, which {kind} " + (f"holds up to {most:,} bytes" if most else "cannot hold"))
    return DecodedImage(image.pixels, held.pop("icc_profile"), Metadata(**held)), left_out


def encode(image: DecodedImage, suffix: str) -> Iterable[bytes | memoryview]:
    """The parts of a file of this suffix; lossless except JPEG (quality 95, 4:4:4).

    PNG takes no memory beyond the image's. Of colour profile and metadata `fit` says what is left out.
    Raises OutputError (73) as `check_can_hold` does.
    """
    check_can_hold(suffix, image.pixels.shape, image.pixels.dtype)
    image, _ = fit(image, suffix)
    pixels, profile, said = image.pixels, image.icc_profile, image.metadata
    kind = IMAGE_SUFFIXES[suffix.lower()]
    if kind == "PNG":
        return png.encode(pixels, _png_chunks(profile, said))
    if kind == "TIFF":
        if pixels.dtype == np.uint16 and pixels.shape[2] == 2:  # few programs read gray with alpha
            pixels = pixels[..., [0, 0, 0, 1]]
        others = {
            XMP_TAG: (tiff.BYTE, said.xmp),
            IPTC_TAG: (tiff.UNDEFINED, said.iptc),
            ICC_TAG: (tiff.UNDEFINED, profile),
        }
        return tiff.encode(pixels, said.exif, {tag: (kind, value) for tag, (kind, value) in others.items() if value})
    options = OPTIONS[kind] | ({"exif": said.exif or b"", "xmp": said.xmp or b""} if kind == "WEBP" else {})
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        buffer, kind, icc_profile=profile, **options
    )
    content = buffer.getbuffer()
    if kind != "JPEG":
        return [content]
    head = 4 + int.from_bytes(content[4:6], "big") if content[2:4] == b"\xff\xe0" else 2  # behind JFIF, which is first
    return [content[:head], _jpeg_segments(said), content[head:]]


def _png_chunks(profile: bytes | None, said: Metadata) -> bytes:
    chunks = png.chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)) if profile else b""
    chunks += png.chunk(b"eXIf", said.exif) if said.exif else b""
    chunks += png.chunk(b"iTXt", XMP_KEYWORD + bytes(5) + said.xmp) if said.xmp else b""
    chunks += raw_profile("iptc", iptc_resource(said.iptc)) if said.iptc else b""
    return chunks + (said.text or b"")


def _jpeg_segments(said: Metadata) -> bytes:
    bodies = [(0xE1, b"Exif\0\0" + said.exif)] if said.exif else []
    bodies += [(0xE1, XMP_HEADER + said.xmp)] if said.xmp else []
    bodies += [(0xED, b"Photoshop 3.0\0" + iptc_resource(said.iptc))] if said.iptc else []
    return b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body for marker, body in bodies)

"""Encoding images: what each format can hold, and its bytes."""

import io
from collections.abc import Iterable

import numpy as np
import tifffile
from PIL import Image

from ssiu.errors import OutputError
from ssiu.images import png
from ssiu.images.decoding import DecodedImage

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
        return png.encode(pixels, icc_profile)
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

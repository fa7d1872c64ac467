"""Images as people have them: gray, RGB or palette, with alpha or not, 8 or 16 bits, turned, with a colour profile.

The reader of training and test images (`ssiu.data.images`) refuses most of these; here they are kept as they are.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from ssiu.data.images import IMAGE_SUFFIXES, MAX_PIXELS, PNG_SIGNATURE, check_png, checked_size, opened, read_bytes
from ssiu.errors import BadInputError, OutputError
from ssiu.files import write_atomically

ORIENTATION = 0x0112  # EXIF tag
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
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
    """Decodes a PNG, JPEG, WebP, BMP or TIFF of any size up to ``max_pixels``.

    EXIF orientation is applied. A palette becomes RGB, a transparent colour becomes alpha, 1, 2 and 4 bits become 8.
    Raises MissingInputError (66), or BadInputError (65) naming the file: damaged, several frames, CMYK, floats, ...
    """
    content = read_bytes(path, max_pixels)
    with opened(path, content) as image:
        checked_size(path, image, max_pixels)
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a camera's JPEG with previews behind it
            raise BadInputError(f"{path}: has {image.n_frames} frames or pages; expected a single image: split it")
        depth = 8
        if image.format == "PNG":
            depth = check_png(path, content)
        elif image.format == "TIFF":
            depth = max(image.tag_v2.get(258, (8,)))  # BitsPerSample
        if depth > 16 or image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16B"):
            kind = {"CMYK": "CMYK", "F": "floating point"}.get(image.mode, f"mode {image.mode}, {depth} bits")
            raise BadInputError(f"{path}: {kind}; expected gray, RGB or palette of at most 16 bits: convert it first")
        if image.mode == "P" and image.palette is None:
            raise BadInputError(f"{path}: damaged image (its palette is missing); fetch it again")
        turned = image.format == "TIFF"  # Pillow and OpenCV turn these by themselves
        pixels = _pixels16(path, image, content) if depth == 16 else _pixels8(image, depth)
        orientation = 1 if turned else image.getexif().get(ORIENTATION, 1)  # in PNG it may stand behind the pixels
        pixels = UPRIGHT.get(orientation, lambda x: x)(pixels)
        return DecodedImage(np.ascontiguousarray(pixels), image.info.get("icc_profile"))


def _pixels8(image: Image.Image, depth: int) -> np.ndarray:
    """(H, W, C) uint8."""
    image.load()
    key = image.info.get("transparency")
    if image.mode in ("1", "L"):
        gray = np.array(image.convert("L"))
        if key is None:
            return gray[..., None]
        return _with_key(gray[..., None], [min(key * 255 // (2**depth - 1), 255)])  # in the file's depth, or 255 of 1
    if image.mode == "P" or key is not None:
        image = image.convert("RGBA" if key is not None else "RGB")
    elif image.mode == "PA":
        image = image.convert("RGBA")
    return np.array(image)


def _pixels16(path: Path, image: Image.Image, content: bytes) -> np.ndarray:
    """(H, W, C) uint16, by OpenCV: Pillow would cut colours to their upper bytes without a word."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise BadInputError(f"{path}: this kind of 16-bit image cannot be read; save it as 16-bit RGB or RGBA")
    if pixels.ndim == 2:
        key = image.info.get("transparency")
        return pixels[..., None] if key is None else _with_key(pixels[..., None], [key])
    is_gray_alpha = image.format == "PNG" and content[len(PNG_SIGNATURE) + 8 + 9] == 4
    return pixels[..., [0, 3] if is_gray_alpha else [2, 1, 0, 3][: pixels.shape[2]]]


def _with_key(pixels: np.ndarray, key: list[int]) -> np.ndarray:
    """An alpha channel that hides the pixels of colour ``key``."""
    alpha = np.where((pixels == key).all(axis=2), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.dstack([pixels, alpha])


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


def write_image(path: Path, image: DecodedImage) -> None:
    """Writes ``image`` atomically in the format of ``path``'s suffix; lossless except JPEG (quality 95, 4:4:4).

    PNG takes no memory beyond the image's; BMP has no place for a colour profile. Raises OutputError (73) for a
    format that cannot hold it or a symbolic link at ``path``, SaveError (74) when writing fails.
    """
    pixels, icc_profile = image.pixels, image.icc_profile
    check_can_hold(path.suffix, *pixels.shape, pixels.dtype)
    kind, options = IMAGE_SUFFIXES[path.suffix.lower()]
    if kind == "PNG":
        write_atomically(path, _encode_png(pixels, icc_profile))
        return
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
        encoded.save(buffer, kind, icc_profile=icc_profile, exact=True, **options)  # exact: WebP, hidden colours too
    write_atomically(path, buffer.getbuffer())


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

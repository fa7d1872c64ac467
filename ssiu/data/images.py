"""Reading and writing images: 8-bit RGB or a clear refusal, never a silently changed value."""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.files import write_atomically

logger = logging.getLogger("ssiu")

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
IMAGE_SUFFIXES = {
    ".png": ("PNG", {"compress_level": 3}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
}
MAX_PIXELS = 64_000_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TURNED = frozenset((5, 6, 7, 8))  # EXIF orientations that swap height and width
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_gray_reported = False


@contextmanager
def opened(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """The image with only its header read; every failure inside is reported with the file's name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about size and metadata: we check sizes ourselves
            with Image.open(path if content is None else io.BytesIO(content), formats=FORMATS) as image:
                yield image
    except BadInputError:
        raise
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file") from None
    except PermissionError:
        raise MissingInputError(f"{path}: permission denied") from None
    except IsADirectoryError:
        raise BadInputError(f"{path}: is a folder, expected an image") from None
    except Image.UnidentifiedImageError:
        raise BadInputError(f"{path}: not a readable image; expected {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise many kinds on damaged files; all of them mean the same here
        raise BadInputError(f"{path}: damaged image ({error or type(error).__name__}); fetch it again") from error


def checked_size(path: Path, image: Image.Image, max_pixels: int) -> tuple[int, int]:
    """(height, width) as shown, which must be small enough to decode."""
    width, height = image.size
    if width * height > max_pixels:
        raise BadInputError(
            f"{path}: declares {width}x{height} = {width * height / 1e6:,.0f} megapixels; "
            f"at most {max_pixels / 1e6:,.0f} are read"
        )
    return (width, height) if _orientation(image) in TURNED else (height, width)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8 of photographs; other formats are stored as shown (Pillow turns TIFF itself)."""
    return image.getexif().get(0x0112, 1) if image.format in ("JPEG", "WEBP") else 1


def image_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) from the header alone.

    Raises MissingInputError (66) and BadInputError (65: no image, more than ``max_pixels``), naming the file.
    """
    with opened(path) as image:
        return checked_size(path, image, max_pixels)


def check_png(path: Path, content: bytes) -> int:
    """Walks the chunks of a PNG and checks every CRC, which Pillow does not; returns the bit depth."""
    position, kind, depth = len(PNG_SIGNATURE), b"", 0
    while kind != b"IEND":
        header = content[position : position + 8]
        if len(header) < 8:
            raise BadInputError(f"{path}: damaged PNG (ends without IEND, truncated); fetch it again")
        length, kind = struct.unpack(">I4s", header)
        body = memoryview(content)[position + 4 : position + 8 + length]
        stored = content[position + 8 + length : position + 12 + length]
        if len(stored) < 4 or zlib.crc32(body) != int.from_bytes(stored, "big"):
            raise BadInputError(
                f"{path}: damaged PNG (checksum of the chunk at byte {position} is wrong); fetch it again"
            )
        if kind == b"IHDR":
            depth = body[4 + 8]
        position += 12 + length
    return depth


def _to_rgb(path: Path, image: Image.Image) -> Image.Image:
    """Gray and palette images become RGB; alpha must be opaque."""
    global _gray_reported
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            raise BadInputError(f"{path}: has transparent pixels; expected an opaque image: flatten it first")
    elif image.mode in ("1", "L") and not _gray_reported:
        _gray_reported = True
        logger.info("%s is gray: one-channel images are replicated to RGB (said once)", path)
    elif image.mode not in ("1", "L", "P", "RGB"):
        kind = {"CMYK": "a CMYK image", "F": "floating point"}.get(image.mode, f"an image of mode {image.mode}")
        if image.mode.startswith("I"):
            kind = "16 bits or more per channel"
        raise BadInputError(f"{path}: {kind}; expected 8-bit RGB or gray: convert it first")
    return image.convert("RGB")


def read_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image to uint8 (H, W, 3).

    Gray and palette images are converted exactly, opaque alpha is dropped, EXIF orientation of photographs
    is applied. Raises MissingInputError (66), or BadInputError (65) naming the file: damaged or truncated (all
    PNG checksums are verified), transparent, 16-bit, CMYK, more than ``max_pixels`` declared, another format.
    """
    return decode_rgb(path, read_bytes(path, max_pixels), max_pixels)


def read_bytes(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """The file's content, once its header has shown that it is an image that will be decoded."""
    image_size(path, max_pixels)
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingInputError(f"{path}: cannot be read ({error.strerror})") from None


def decode_rgb(path: Path, content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`read_rgb` of a file already in memory; ``path`` names it in errors."""
    with opened(path, content) as image:
        checked_size(path, image, max_pixels)
        depth = 8
        if image.format == "PNG":
            depth = check_png(path, content)
        elif image.format == "TIFF":
            depth = max(image.tag_v2.get(258, (8,)))  # BitsPerSample
        if depth > 8:  # Pillow would cut 16-bit RGB to its upper bytes without a word
            raise BadInputError(f"{path}: {depth} bits per channel; expected 8: convert it first")
        orientation = _orientation(image)
        rgb = _to_rgb(path, image)
        if orientation in TRANSPOSES:
            rgb = rgb.transpose(TRANSPOSES[orientation])
        return np.array(rgb)


def encode_image(image: np.ndarray, suffix: str) -> bytes:
    """The file content for uint8 ``image`` (H, W, 3) or (H, W); lossless except JPEG (quality 95, 4:4:4)."""
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise OutputError(f"cannot write images as '{suffix}'; known: {', '.join(IMAGE_SUFFIXES)}")
    kind, options = IMAGE_SUFFIXES[suffix.lower()]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def save_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 ``image`` (H, W, 3) or (H, W) atomically in the format of ``path``'s suffix.

    Raises OutputError (73) for an unknown suffix or a symbolic link, SaveError (74) when writing fails.
    """
    write_atomically(path, encode_image(image, path.suffix))

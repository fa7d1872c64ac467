"""Reading and writing image files.

`read_rgb` is for training and test images: 8-bit RGB or a clear refusal. `read_image` keeps what people have: gray,
alpha, 16 bits, a colour profile.
"""

import logging
import mimetypes
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ssiu.errors import BadInputError, MissingInputError
from ssiu.files import write_atomically
from ssiu.images.decoding import MAX_PIXELS, PHOTOGRAPHS, DecodedImage, decode, open_file, opened
from ssiu.images.encoding import IMAGE_SUFFIXES, encode
from ssiu.images.metadata import read_metadata

logger = logging.getLogger("ssiu")

_gray_reported = False


def is_image_name(path: Path) -> bool:
    """Whether the name says that this is an image, of a format that is read here or of another."""
    kind, _ = mimetypes.guess_type(path.name)
    return path.suffix.lower() in Image.registered_extensions() or (kind or "").startswith("image/")


def unread(files: Iterable[Path]) -> str:
    """How many of these files are images in formats that are not read: ``1 .gif, 2 .heic``; empty without any."""
    others = Counter(
        file.suffix.lower() for file in files if file.suffix.lower() not in IMAGE_SUFFIXES and is_image_name(file)
    )
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))


def image_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) as shown, from the header alone.

    Raises MissingInputError (66) and BadInputError (65: no image, more than ``max_pixels``), naming the file.
    """
    with opened(path, max_pixels=max_pixels) as image:
        width, height = image.size
        lies = image.format in PHOTOGRAPHS and read_metadata(image).orientation > 4
        return (width, height) if lies else (height, width)


def read_bytes(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """The file's content, once its header has shown that it is an image that will be decoded."""
    image_size(path, max_pixels)
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise MissingInputError(f"{path}: cannot be read ({error.strerror})") from None


def read_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image to uint8 (H, W, 3).

    Gray and palette images are converted exactly, opaque alpha is dropped, EXIF orientation of photographs
    is applied. Raises MissingInputError (66), or BadInputError (65) naming the file: what `decode` refuses, and
    images that are transparent or have 16 bits.
    """
    return decode_rgb(path, read_bytes(path, max_pixels), max_pixels)


def decode_rgb(path: Path, content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`read_rgb` of a file already in memory; ``path`` names it in errors."""
    global _gray_reported
    pixels = decode(path, content, max_pixels).pixels
    if pixels.dtype != np.uint8:
        raise BadInputError(f"{path}: 16 bits per channel; expected 8: convert it first")
    if pixels.shape[2] in (2, 4):
        if pixels[..., -1].min() < 255:
            raise BadInputError(f"{path}: has transparent pixels; expected an opaque image: flatten it first")
        pixels = pixels[..., :-1]
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    if not _gray_reported:
        _gray_reported = True
        logger.info("%s is gray: one-channel images are replicated to RGB (said once)", path)
    return np.repeat(pixels, 3, axis=2)


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decodes a PNG, JPEG, WebP, BMP or TIFF of any size up to ``max_pixels``, turned as its EXIF orientation says.

    Raises MissingInputError (66), or BadInputError (65) naming the file; `ssiu.images.decoding.decode` says for what.
    """
    turned = (*PHOTOGRAPHS, "PNG")  # data sets show PNG as it is stored
    return decode(path, read_bytes(path, max_pixels), max_pixels, turned)


def write_image(path: Path, image: DecodedImage, overwrite: bool = True) -> None:
    """Writes ``image`` atomically in the format of ``path``'s suffix; `ssiu.images.encoding.encode` says how.

    Raises OutputError (73) for a format that cannot hold it or a symbolic link at ``path``, SaveError (74) when writing
    fails, FileExistsError where ``path`` is taken and ``overwrite`` is off.
    """
    write_atomically(path, encode(image, path.suffix), overwrite)


def save_image(path: Path, image: np.ndarray) -> None:
    """`write_image` of uint8 ``image`` (H, W, 3) or (H, W)."""
    write_image(path, DecodedImage(image if image.ndim == 3 else image[..., None]))

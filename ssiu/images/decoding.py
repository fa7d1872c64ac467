"""Decoding image files: their very samples, or a refusal that says what the file is, never a silently changed value.

Pillow decodes up to 8 bits and OpenCV 16; what they would cut, wrap, mix up or fill in is refused before.
"""

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, EXTRASAMPLES, TiffImageFile
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION as PHOTOMETRIC

from ssiu.errors import BadInputError, MissingInputError, SSIUError
from ssiu.images import png, tiff
from ssiu.images.metadata import Metadata, read_metadata

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16B")  # of Pillow; I;16: 16-bit gray
MAX_PIXELS = 64_000_000
MAX_BYTES = 8 * MAX_PIXELS + png.MAX_TEXT  # of a file: RGBA of 16 bits, uncompressed
PHOTOGRAPHS = ("JPEG", "MPO", "WEBP")  # turned by their orientation, TIFF by the decoders; MPO: a JPEG with previews


@dataclass(frozen=True)
class DecodedImage:
    """An image as shown, in memory.

    pixels: (H, W, C) uint8 or uint16; C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha, which is not premultiplied.
    icc_profile: what the colours mean; None is sRGB. metadata: what else the file says.
    """

    pixels: np.ndarray
    icc_profile: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)


def open_file(path: Path) -> BinaryIO:
    """Opens ``path``; raises MissingInputError (66), or BadInputError (65) for what is no file, or a vast one."""
    try:
        if path.is_dir():
            raise BadInputError(f"{path}: is a folder, expected an image")
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise BadInputError(f"{path}: is a pipe or device, expected an image file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            most = f"at most {MAX_BYTES / 1e9:.2g} GB are read"
            raise BadInputError(f"{path}: a file of {size / 1e9:.3g} GB; {most}: cut it into parts")
        return path.open("rb")
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file") from None
    except OSError as error:
        raise MissingInputError(f"{path}: cannot be read ({error.strerror})") from None


@contextmanager
def opened(path: Path, content: bytes | None = None, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The image with only its header read; every failure inside is reported with the file's name."""
    with open_file(path) if content is None else io.BytesIO(content) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about size and metadata: we check sizes ourselves
        kind = "image"
        try:
            with Image.open(file, formats=FORMATS) as image:
                kind = image.format or kind
                tile = tiff.tile(_tags(image))
                for what, (width, height), advice in (
                    ("", image.size, "cut it into parts"),
                    ("tiles of ", tile, "convert it first"),
                ):
                    if width * height > max_pixels:
                        declared = f"{what}{width}x{height} = {width * height / 1e6:,.8g}"
                        raise _too_large(path, declared, max_pixels, advice)
                yield image
        except SSIUError:
            raise
        except Image.DecompressionBombError:  # Pillow's own limit, met before the size is known
            raise _too_large(path, f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:,.0f}", max_pixels) from None
        except Image.UnidentifiedImageError:
            raise _unidentified(path, file) from None
        except MemoryError:
            raise BadInputError(f"{path}: not enough memory to decode it") from None
        except Exception as error:  # decoders raise many kinds on damaged files; all of them mean the same here
            if str(error).startswith("Unsupported"):  # what Pillow says of kinds of BMP
                raise _not_read(path, str(error)) from None
            if "MAX_TEXT" in str(error):
                raise BadInputError(
                    f"{path}: more than {png.MAX_TEXT / 1e6:.0f} MB of text or colour profile: remove it first"
                ) from None
            raise _damaged(path, str(error) or type(error).__name__, kind) from error


def _too_large(path: Path, declared: str, max_pixels: int, advice: str = "cut it into parts") -> BadInputError:
    most = f"at most {max_pixels / 1e6:,.8g} are read"
    return BadInputError(f"{path}: declares {declared} megapixels; {most}: {advice}")


def _not_read(path: Path, kind: str) -> BadInputError:
    expected = "" if "; expected" in kind else "; expected gray, RGB or palette of 8 or 16 bits"
    return BadInputError(f"{path}: {kind}{expected}: convert it first")


def _damaged(path: Path, how: str, what: str) -> BadInputError:
    return BadInputError(f"{path}: damaged {what} ({how}); fetch it again")


def _unidentified(path: Path, file: BinaryIO) -> BadInputError:
    """Says what Pillow does not know: a kind of TIFF, or no image at all."""
    file.seek(0)
    signature = file.read(4)
    if signature == b"MM\0+":
        return _not_read(path, "a big-endian BigTIFF; expected little-endian")
    if signature not in tiff.SIGNATURES:
        return BadInputError(f"{path}: not a readable image; expected {', '.join(FORMATS)}")
    try:
        tags = tiff.read_tags(file)
        return _not_read(path, tiff.problem(tags) or tiff.colours(tags))
    except Exception:  # Pillow raises many kinds here too
        return _damaged(path, "its directory cannot be read", "TIFF")


def decode(
    path: Path, content: bytes, max_pixels: int = MAX_PIXELS, turned: tuple[str, ...] = PHOTOGRAPHS
) -> DecodedImage:
    """The image of a file in memory; ``path`` names it in errors.

    A palette becomes RGB, a transparent colour becomes alpha; 1, 2 and 4 bits become 8. EXIF orientation is applied to
    the formats ``turned``.
    Raises BadInputError (65): damaged or truncated (all checksums and rows of a PNG are verified), several frames,
    more than ``max_pixels`` declared, other colours, depths or formats.
    """
    with opened(path, content, max_pixels) as image:
        frames = getattr(image, "n_frames", 1)
        if image.format != "MPO" and frames > 1:
            raise BadInputError(f"{path}: has {frames} frames or pages; expected a single image: split it")
        chunks: list[png.Chunk] = []
        depth, tags = 8, _tags(image)
        if image.format == "PNG":
            chunks = png.read_chunks(content)
            depth = png.check_rows(chunks)
        elif image.format == "BMP" and _drops_alpha(content):
            raise _not_read(path, "a BMP of 16 bits a pixel, one of them alpha")
        elif image.format == "TIFF":
            if problem := tiff.problem(tags):
                raise _not_read(path, problem)
            depth = tags.get(BITSPERSAMPLE, (1,))[0]
        if image.mode not in MODES:
            raise _not_read(path, {"CMYK": "a CMYK image"}.get(image.mode, f"an image of mode {image.mode}"))
        pixels = _pixels16(image, content, tags) if depth == 16 else _pixels8(image, depth)
        metadata = read_metadata(image, content, chunks)
        pixels = _upright(pixels, metadata.orientation if image.format in turned else 1)
        profile = image.info.get("icc_profile")  # in a TIFF it may be a number or a text, which is none
        return DecodedImage(np.ascontiguousarray(pixels), profile if isinstance(profile, bytes) else None, metadata)


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """Of a TIFF."""
    return image.tag_v2 if isinstance(image, TiffImageFile) else {}


def _drops_alpha(bmp: bytes) -> bool:
    """Whether the header has a mask of alpha that Pillow passes over: it looks for one at 32 bits a pixel only."""
    header, bits, method = struct.unpack_from("<14xI10xHI", bmp)
    return bits == 16 and method == 3 and header >= 56 and any(bmp[66:70])


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turned and mirrored as EXIF ``orientation`` says; Pillow's `exif_transpose` has no 16-bit colours."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


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


def _pixels16(image: Image.Image, content: bytes, tags: Mapping[int, Any]) -> np.ndarray:
    """(H, W, C) uint16, by OpenCV: Pillow would cut colours to their upper bytes without a word."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[1::-1] != image.size:
        compression = image.info.get("compression", "deflate")
        raise ValueError(f"its 16-bit samples, {compression}, cannot be decoded")
    key = image.info.get("transparency")
    if pixels.ndim == 2:
        if image.format == "TIFF" and tags.get(PHOTOMETRIC) == 0:  # white is 0
            pixels = 65535 - pixels
        return pixels[..., None] if key is None else _with_key(pixels[..., None], [key])
    if image.format == "PNG":
        is_gray = content[len(png.SIGNATURE) + 8 + 9] == 4
        return pixels[..., [0, 3] if is_gray else [2, 1, 0, 3][: pixels.shape[2]]]
    dropped = tags.get(EXTRASAMPLES) == (0,)  # a sample of unknown meaning, which Pillow drops at 8 bits too
    return pixels[..., [2, 1, 0, 3][: 3 if dropped else pixels.shape[2]]]


def _with_key(pixels: np.ndarray, key: list[int]) -> np.ndarray:
    """An alpha channel that hides the pixels of colour ``key``."""
    alpha = np.where((pixels == key).all(axis=2), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.dstack([pixels, alpha])

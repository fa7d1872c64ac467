"""Small image files of every kind there is: those that are read, and those that are refused."""

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG colour type
PNG_KINDS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4), (8, 6), (16, 6)]
PALETTES = [(1, 3), (2, 3), (4, 3), (8, 3)]  # (depth, colour type) as above
HEIGHT, WIDTH = 13, 19


def noise(channels: int, dtype: type = np.uint8, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(height, width, channels), the same at every call."""
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels)).astype(dtype)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(samples: np.ndarray, depth: int) -> bytes:
    """Rows of samples (H, W, C) with PNG's filter byte 0 before each, ``depth`` bits a sample."""
    rows = samples.reshape(len(samples), -1)
    if depth == 16:
        data = rows.astype(">u2").view(np.uint8)
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        data = np.packbits(bits.reshape(len(rows), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in data)


def png(
    samples: np.ndarray, depth: int, colour: int, interlaced: bool = False, rows: slice = slice(None), **chunks: bytes
) -> bytes:
    """A PNG by hand, of any depth and colour type; ``chunks`` stand before the pixels, of which only ``rows`` are."""
    height, width, _ = samples.shape
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    data = b"".join(packed(part, depth) for part in passes if part.size)
    data = data[: rows.stop * len(data) // height] if rows.stop else data
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def noise_png(depth: int, colour: int, interlaced: bool = False, **chunks: bytes) -> bytes:
    """A PNG of noise, with a palette where it needs one."""
    samples = noise(CHANNELS[colour], np.uint16) & (2**depth - 1)
    if colour == 3:
        chunks = {"PLTE": noise(3, height=1, width=2**depth).tobytes(), **chunks}
    return png(samples, depth, colour, interlaced, **chunks)


def saved(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    """What Pillow writes."""
    buffer = io.BytesIO()
    image = image.copy() if isinstance(image, Image.Image) else Image.fromarray(image)  # saving leaves marks on it
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, photometric: str = "rgb", **options: object) -> bytes:
    """What tifffile writes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric=photometric, metadata=None, **options)
    return buffer.getvalue()


def packed_tiff(bits: int) -> bytes:
    """A gray TIFF of ``bits`` a sample, by hand: tifffile packs only with another library."""
    samples = noise(1, np.uint16) & (2**bits - 1)
    rows = np.unpackbits(samples.astype(">u2").view(np.uint8), axis=1).reshape(HEIGHT, WIDTH, 16)[..., 16 - bits :]
    data = np.packbits(rows.reshape(HEIGHT, -1), axis=1).tobytes()
    return tiff_by_hand({256: WIDTH, 257: HEIGHT, 258: bits, 278: HEIGHT}, data)


def tiff_by_hand(tags: dict[int, int], data: bytes) -> bytes:
    """A gray TIFF of one strip, or of one tile where ``tags`` have its size."""
    offset, length = (324, 325) if 322 in tags else (273, 279)
    tags = {258: 8, 259: 1, 262: 1, 277: 1, **tags, length: len(data)}
    tags[offset] = 8 + 2 + 12 * (len(tags) + 1) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + bytes(4) + data


def retagged(content: bytes, changes: dict[int, tuple[int, int]]) -> bytes:
    """A little-endian TIFF of which entries, by tag, become others: (tag, value); a value of 0 stays as it is."""
    data = bytearray(content)
    start = struct.unpack_from("<I", data, 4)[0]
    for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        tag, value = changes.get(struct.unpack_from("<H", data, at)[0], (0, 0))
        if tag:
            struct.pack_into("<H", data, at, tag)
        if value:
            struct.pack_into("<I", data, at + 8, value)
    return bytes(data)


def bmp(bits: int, masks: tuple[int, int, int, int]) -> bytes:
    """A BMP of 4x4 pixels with such masks of red, green, blue and alpha."""
    header = struct.pack("<IiiHHIIiiII4I", 56, 4, 4, 1, bits, 3, 2 * bits, 0, 0, 0, 0, *masks)
    return struct.pack("<2sIII", b"BM", 70 + 2 * bits, 0, 70) + header + noise(1, height=2, width=bits).tobytes()


def two(kind: str) -> bytes:
    """Two frames or pages in a file."""
    return saved(PILLOW, kind, save_all=True, append_images=[PILLOW.rotate(90)])


def turned(orientation: int = 6) -> Image.Exif:
    """EXIF data with this orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


RGB, RGBA, GRAY = noise(3), noise(4), noise(1)[..., 0]
RGB16, RGBA16, GRAY16 = noise(3, np.uint16), noise(4, np.uint16), noise(1, np.uint16)[..., 0]
OPAQUE = np.dstack([RGB, np.full_like(GRAY, 255)])
PILLOW = Image.fromarray(RGB)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read_kinds() -> dict[str, bytes]:
    """File name -> content: everything that `ssiu upscale` reads."""
    kinds = {f"{depth} bits, type {colour}.png": noise_png(depth, colour) for depth, colour in PNG_KINDS + PALETTES}
    kinds |= {f"laced, {depth}, {colour}.png": noise_png(depth, colour, True) for depth, colour in PNG_KINDS + PALETTES}
    for quality in (30, 95):
        kinds[f"{quality}.jpg"] = saved(PILLOW, "JPEG", quality=quality)
    for suffix, kind in ((".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF")):
        kinds[f"turned{suffix}"] = saved(PILLOW, kind, exif=turned())
    for name in (None, "tiff_lzw", "tiff_deflate", "packbits"):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
            kinds[f"{mode} {name}.tif"] = saved(PILLOW.convert(mode), "TIFF", compression=name)
    for name, pixels in (("RGB", RGB), ("RGB 16", RGB16), ("gray 16", GRAY16)):
        colour = "rgb" if pixels.ndim == 3 else "minisblack"
        for order in "<>":
            kinds[f"{name} {order}.tif"] = tiff(pixels, colour, byteorder=order)
        kinds[f"{name} deflate.tif"] = tiff(pixels, colour, compression="zlib", predictor=True)
        kinds[f"{name} tiled.tif"] = tiff(pixels, colour, tile=(16, 16))
        kinds[f"{name} big.tif"] = tiff(pixels, colour, bigtiff=True)
        kinds[f"{name} white is 0.tif"] = (
            tiff(pixels, "miniswhite") if colour != "rgb" else tiff(pixels, rowsperstrip=4)
        )
        kinds[f"{name} lzw.tif"] = cv2.imencode(".tif", pixels)[1].tobytes()
    return kinds | {
        "white is 0.tif": tiff(GRAY, "miniswhite"),
        "white is 0, 16.tif": tiff(GRAY16, "miniswhite"),
        "planes.tif": tiff(np.moveaxis(RGB, 2, 0), planarconfig="separate"),
        "RGBA 16.tif": tiff(RGBA16, extrasamples=["unassalpha"]),
        "unnamed fourth, 16.tif": tiff(RGBA16, extrasamples=["unspecified"]),
        "unnamed fourth.tif": tiff(RGBA, extrasamples=["unspecified"]),
        "premultiplied.tif": tiff(RGBA, extrasamples=["assocalpha"]),
        "jpeg.tif": saved(PILLOW, "TIFF", compression="jpeg"),
        "gray.jpg": saved(GRAY, "JPEG"),
        "progressive.jfif": saved(PILLOW, "JPEG", progressive=True),
        "previews.jpg": two("MPO"),
        "lossy.webp": saved(PILLOW, "WEBP"),
        "lossless.webp": saved(PILLOW, "WEBP", lossless=True),
        "alpha.webp": saved(RGBA, "WEBP", lossless=True),
        "RGB.bmp": saved(PILLOW, "BMP"),
        "gray.bmp": saved(GRAY, "BMP"),
        "palette.bmp": saved(PILLOW.convert("P"), "BMP"),
        "1 bit.bmp": saved(PILLOW.convert("1"), "BMP"),
        "alpha.bmp": saved(OPAQUE, "BMP"),
        "R5G6B5.bmp": bmp(16, (0xF800, 0x7E0, 0x1F, 0)),
        "X1R5G5B5.bmp": bmp(16, (0x7C00, 0x3E0, 0x1F, 0)),
        "keyed gray.png": noise_png(2, 0, tRNS=b"\0\1"),
        "keyed gray 16.png": noise_png(16, 0, tRNS=b"\0\1"),
        "keyed.png": noise_png(8, 2, tRNS=(noise(3, np.uint16)[0, 0] & 255).astype(">u2").tobytes()),
        "keyed palette.png": noise_png(4, 3, tRNS=b"\0\x80"),
        "needless key, 4.png": noise_png(8, 4, tRNS=b"\0\1"),
        "needless key, 6.png": noise_png(8, 6, tRNS=b"\0\1\0\1\0\1"),
        "opaque.png": saved(OPAQUE, "PNG"),
    }  # fmt: skip


def refused_kinds() -> dict[str, bytes]:
    """File name -> content: what is whole, but not read."""
    kinds = {f"{bits} bits.tif": packed_tiff(bits) for bits in (10, 12, 14)}
    for dtype in (np.int8, np.int16, np.float16, np.float32, np.float64, np.uint32, np.int32):
        kinds[f"gray {np.dtype(dtype)}.tif"] = tiff(GRAY.astype(dtype), "minisblack")
        kinds[f"RGB {np.dtype(dtype)}.tif"] = tiff(RGB.astype(dtype))
    colours16 = (("cielab", RGB16), ("ycbcr", RGB16), ("separated", RGBA16), ("minisblack", noise(2, np.uint16)))
    for colour, pixels in colours16:
        kinds[f"{colour} 16.tif"] = tiff(pixels, colour, planarconfig="contig")
    for compression in (34712, 34887, 34933, 50001, 50002, 9999):
        kinds[f"compression {compression}.tif"] = retagged(tiff(RGB), {259: (259, compression)})
    for compression in (4, 7, 34925, 50000, 50001, 50002):
        kinds[f"16 bits, compression {compression}.tif"] = retagged(tiff(RGB16), {259: (259, compression)})
    return kinds | {
        "tiles as strips.tif": retagged(tiff(RGB, tile=(16, 16)), {324: (273, 0), 325: (279, 0)}),
        "MM BigTIFF.tif": tiff(RGB, byteorder=">", bigtiff=True),
        "MM BigTIFF 16.tif": tiff(RGB16, byteorder=">", bigtiff=True),
        "A1R5G5B5.bmp": bmp(16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        "R4G4B4.bmp": bmp(16, (0xF00, 0xF0, 0xF, 0)),
        "A4R4G4B4.bmp": bmp(16, (0xF00, 0xF0, 0xF, 0xF000)),
        "R10G10B10.bmp": bmp(32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
        "planes 16.tif": tiff(np.moveaxis(RGB16, 2, 0), planarconfig="separate"),
        "premultiplied 16.tif": tiff(RGBA16, extrasamples=["assocalpha"]),
        "premultiplied gray.tif": tiff(noise(2), "minisblack", planarconfig="contig", extrasamples=["assocalpha"]),
        "CMYK.jpg": saved(PILLOW.convert("CMYK"), "JPEG"),
        "CMYK.tif": saved(PILLOW.convert("CMYK"), "TIFF"),
        "Lab.tif": saved(Image.new("LAB", (WIDTH, HEIGHT)), "TIFF"),
        "YCbCr.tif": saved(PILLOW.convert("YCbCr"), "TIFF"),
        "pages.tif": two("TIFF"),
        "animated.png": two("PNG"),
        "animated.webp": two("WEBP"),
        "GIF.png": saved(PILLOW, "GIF"),
        "no palette.png": png(noise(1), 8, 3),
        "wrong depth.png": png(RGB & 31, 5, 2),
        "half.png": png(RGB, 8, 2, rows=slice(HEIGHT // 2)),
        "half, 16.png": png(RGB16, 16, 2, rows=slice(HEIGHT // 2)),
        "half, laced.png": png(RGB, 8, 2, interlaced=True, rows=slice(HEIGHT // 2)),
        "empty.png": b"",
        "text.jpg": b"hello",
    }  # fmt: skip

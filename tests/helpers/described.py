"""Images that say something of themselves: a camera's EXIF by hand, XMP and IPTC, in every format that holds them."""

import io
import struct
import zlib

import numpy as np
from image_kinds import GRAY, RGB, RGB16, chunk, packed, saved
from PIL import Image

CAPTION = "Ein Käfer"
XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
    'tiff:Orientation="6" tiff:ImageWidth="19" exif:PixelXDimension="19"><tiff:ImageLength>13</tiff:ImageLength>'
    f"<dc:title>{CAPTION}</dc:title><xmp:Thumbnails>AAAA</xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
).encode()
IPTC = b"\x1c\x02\x78" + struct.pack(">H", len(CAPTION.encode())) + CAPTION.encode()  # 2:120, the caption
NOTES = b"Camera's own notes, found by their offset"
THUMBNAIL = b"\xff\xd8" + 50 * b"thumbnail" + b"\xff\xd9"
TEXT = chunk(b"tEXt", b"parameters\0a beetle, seed 7") + chunk(
    b"iTXt", b"Title\0\1\0\0\0" + zlib.compress(CAPTION.encode())
)


def camera_exif(order: str = "<", orientation: int = 6) -> bytes:
    """EXIF with a camera's notes, GPS, sizes in two places and a thumbnail; ``order`` as `struct` names it."""
    block = bytearray(struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8))

    def directory(entries: list[tuple[int, int, int, bytes]], following: int = 0) -> int:
        """Appends it and returns where it is; long values stand before it."""
        packed_entries = b""
        for tag, kind, count, value in sorted(entries):
            if len(value) > 4:
                field = struct.pack(order + "I", len(block))
                block.extend(value + bytes(len(value) % 2))
            else:
                field = value.ljust(4, b"\0")
            packed_entries += struct.pack(order + "HHI", tag, kind, count) + field
        at = len(block)
        block.extend(struct.pack(order + "H", len(entries)) + packed_entries + struct.pack(order + "I", following))
        return at

    def short(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}H", *values)

    def long(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}I", *values)

    inner = directory(
        [
            (33434, 5, 1, long(1, 60)),  # exposure time
            (34855, 3, 1, short(100)),  # ISO
            (37500, 7, len(NOTES), NOTES),
            (40962, 3, 1, short(19)),
            (40963, 4, 1, long(13)),
        ]
    )
    gps = directory([(1, 2, 2, b"N\0"), (2, 5, 3, long(48, 1, 6, 1, 0, 1))])
    outer = [
        (256, 3, 1, short(19)),
        (257, 3, 1, short(13)),
        (271, 2, 6, b"Canon\0"),
        (274, 3, 1, short(orientation)),
        (282, 5, 1, long(72, 1)),
        (315, 2, 3, b"Me\0"),
        (34665, 4, 1, long(inner)),
        (34853, 4, 1, long(gps)),
    ]
    thumbnail = len(block)
    first = directory(outer)
    second = directory([(259, 3, 1, short(6)), (513, 4, 1, long(0)), (514, 4, 1, long(len(THUMBNAIL)))])
    struct.pack_into(order + "I", block, second + 2 + 12 + 8, len(block))
    struct.pack_into(order + "I", block, second - 4, second)  # the first directory's next one
    struct.pack_into(order + "I", block, 4, first)
    assert thumbnail <= first
    return bytes(block + THUMBNAIL)


def described_png(
    pixels: np.ndarray = RGB,
    exif: bytes | None = None,
    xmp: bytes = XMP,
    iptc: bytes = IPTC,
    behind: bool = False,
    text: bytes = TEXT,
) -> bytes:
    """All of it in a PNG, before its pixels or ``behind`` them."""
    depth = 8 * pixels.itemsize
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, 2, 0, 0, 0)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc
    profile = f"\niptc\n{len(resource):8}\n{resource.hex()}\n".encode()
    chunks = chunk(b"eXIf", camera_exif() if exif is None else exif)
    chunks += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    chunks += chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(profile)) + text
    data = chunk(b"IDAT", zlib.compress(packed(pixels, depth)))
    body = data + chunks if behind else chunks + data
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def described_jpeg(exif: bytes | None = None, xmp: bytes = XMP, iptc: bytes = IPTC) -> bytes:
    """All of it in a JPEG."""
    content = saved(RGB, "JPEG", exif=b"Exif\0\0" + (camera_exif() if exif is None else exif), xmp=xmp)
    resources = b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0" + struct.pack(">I", 16) + bytes(16)
    resources += b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return content[:2] + b"\xff\xed" + struct.pack(">H", 2 + len(resources)) + resources + content[2:]


def described_webp(exif: bytes | None = None, xmp: bytes = XMP) -> bytes:
    """EXIF and XMP in a WebP."""
    return saved(RGB, "WEBP", lossless=True, exif=camera_exif() if exif is None else exif, xmp=xmp)


def described_tiff(pixels: np.ndarray = RGB, xmp: bytes = XMP, iptc: bytes = IPTC, order: str = "<") -> bytes:
    """All of it in an uncompressed TIFF, its notes moved to another offset, as Pillow moves them."""
    exif = Image.Exif()
    exif.load(camera_exif(order, 1))
    for tag in (34665, 34853):
        exif.get_ifd(tag)
    exif[700], exif[33723] = xmp, iptc
    if pixels.dtype == np.uint8:
        return saved(pixels, "TIFF", exif=exif)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", exif=exif)
    return buffer.getvalue()


def sources() -> dict[str, bytes]:
    """File name -> content of an image that says all that its format holds."""
    return {
        "II.jpg": described_jpeg(),
        "MM.jpg": described_jpeg(camera_exif(">")),
        "II.png": described_png(),
        "MM, behind.png": described_png(exif=camera_exif(">"), behind=True),
        "16 bits.png": described_png(RGB16),
        "II.webp": described_webp(),
        "MM.webp": described_webp(camera_exif(">")),
        "II.tif": described_tiff(),
        "gray.tif": described_tiff(GRAY),
        "gray 16.tif": described_tiff(RGB16[..., 0]),
    }

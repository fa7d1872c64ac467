"""What a file says of its image besides the pixels and the colour profile: EXIF, XMP, IPTC, and the texts of a PNG.

They are kept byte for byte; only what is no longer true of the enlarged image is corrected, where it stands.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from ssiu.images import png, tiff

ORIENTATION, IMAGE_WIDTH, IMAGE_LENGTH, PIXEL_X, PIXEL_Y = 274, 256, 257, 40962, 40963  # EXIF tags
THUMBNAIL = ((513, 514), (273, 279))  # tags of its offset and length: JPEG, uncompressed
XMP_TAG, PHOTOSHOP_TAG, IPTC_TAG, ICC_TAG = 700, 34377, 33723, 34675  # of TIFF
XMP_KEYWORD, XMP_HEADER = b"XML:com.adobe.xmp", b"http://ns.adobe.com/xap/1.0/\0"  # of PNG and JPEG
RAW_PROFILE = b"Raw profile type "  # ImageMagick's keyword in PNG
XMP_NUMBER = re.compile(
    rb"\b(tiff:Orientation|tiff:ImageWidth|tiff:ImageLength|exif:PixelXDimension|exif:PixelYDimension)"
    rb"(\s*=\s*[\"']|>\s*)(\d+)"
)
XMP_EXTENSION = re.compile(rb"xmpNote:HasExtendedXMP\s*=\s*(\"\w*\"|'\w*')")


@dataclass(frozen=True)
class Metadata:
    """Each None where the file has none.

    exif: a TIFF without samples, from its "II" or "MM"; xmp: the packet; iptc: IIM records; text: chunks of a PNG.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: bytes | None = None

    @property
    def orientation(self) -> int:
        """1-8 as EXIF has it; where that says nothing, as XMP has it."""
        found = [number for name, number in _xmp_numbers(self.xmp or b"") if name == b"tiff:Orientation"]
        try:
            block = self.exif or b""
            for entry in tiff.read_directory(block)[0]:
                if entry.tag == ORIENTATION:
                    found = [tiff.number(block[entry.start : entry.end], tiff.byte_order(block))]
        except struct.error:  # damaged
            pass
        return found[0] if found and found[0] in range(1, 9) else 1

    def resized(self, height: int, width: int) -> tuple["Metadata", list[str]]:
        """For an upright image of this size, without a thumbnail; and what had to be left out."""
        exif, xmp, left_out = self.exif, self.xmp, []
        if exif:
            try:
                exif = _resized_exif(exif, height, width)
            except struct.error:
                exif = None
                left_out.append("damaged EXIF")
        if xmp:
            xmp, extensions = XMP_EXTENSION.subn(b"", _resized_xmp(xmp, height, width))
            left_out += ["extended XMP"] if extensions else []
        return replace(self, exif=exif, xmp=xmp), left_out


def _resized_exif(exif: bytes, height: int, width: int) -> bytes:
    """struct.error where it is damaged."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        raise struct.error("no EXIF")
    block, order = bytearray(exif), tiff.byte_order(exif)

    def value(entry: tiff.Entry) -> int:
        return tiff.number(exif[entry.start : entry.end], order)

    sizes = {IMAGE_WIDTH: width, IMAGE_LENGTH: height, PIXEL_X: width, PIXEL_Y: height}
    entries, next_at = tiff.read_directory(exif)
    inner = [tiff.read_directory(exif, value(entry))[0] for entry in entries if entry.tag == tiff.EXIF]
    for entry in sum(inner, entries):
        if entry.tag == ORIENTATION:
            struct.pack_into(order + "HIHH", block, entry.position + 2, tiff.SHORT, 1, 1, 0)
        elif entry.tag in sizes:
            struct.pack_into(order + "HII", block, entry.position + 2, tiff.LONG, 1, sizes[entry.tag])
    (thumbnail_at,) = struct.unpack_from(order + "I", exif, next_at)
    if thumbnail_at:
        struct.pack_into(order + "I", block, next_at, 0)
        found = {entry.tag: value(entry) for entry in tiff.read_directory(exif, thumbnail_at)[0]}
        for offset, length in THUMBNAIL:
            start = found.get(offset, len(block))
            end = min(start + found.get(length, 0), len(block))
            block[start:end] = bytes(max(end - start, 0))
            if start < end == len(block):
                del block[start:]
    tiff.read_directory(bytes(block))  # a thumbnail on top of it has erased it
    return bytes(block)


def _xmp_numbers(xmp: bytes) -> list[tuple[bytes, int]]:
    return [(name, int(number[:9])) for name, _, number in XMP_NUMBER.findall(xmp)]


def _resized_xmp(xmp: bytes, height: int, width: int) -> bytes:
    head, _, rest = xmp.partition(b"<xmp:Thumbnails>")
    _, closed, tail = rest.partition(b"</xmp:Thumbnails>")
    xmp = head + tail if closed else xmp

    def corrected(match: re.Match[bytes]) -> bytes:
        numbers = {b"Orientation": 1, b"ImageWidth": width, b"PixelXDimension": width}
        return match[1] + match[2] + str(numbers.get(match[1].partition(b":")[2], height)).encode()

    return XMP_NUMBER.sub(corrected, xmp)


def iptc_resource(records: bytes) -> bytes:
    """As Photoshop wraps them."""
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + bytes(len(records) % 2)


def _iptc(resources: bytes) -> bytes | None:
    """The records in Photoshop's resources, or ``resources`` that are such records themselves."""
    at = resources.find(b"8BIM\x04\x04")
    if at < 0:
        return resources if resources.startswith(b"\x1c") else None
    name = 1 + int.from_bytes(resources[at + 6 : at + 7])
    start = at + 6 + name + name % 2
    return resources[start + 4 : start + 4 + int.from_bytes(resources[start : start + 4])] or None


def raw_profile(name: str, profile: bytes) -> bytes:
    """The chunk of a PNG in which ImageMagick keeps what has no chunk of its own."""
    digits = profile.hex().encode()
    lines = b"\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    said = f"\n{name}\n{len(profile):8}\n".encode() + lines + b"\n"
    return png.chunk(b"zTXt", RAW_PROFILE + name.encode() + b"\0\0" + zlib.compress(said))


# ---------------------------------------------------------------- where the formats keep it


def read_metadata(image: Image.Image, content: bytes = b"", chunks: Sequence[png.Chunk] = ()) -> Metadata:
    """What the file of an opened image says; of a TIFF this is in its ``content``, of a PNG in its ``chunks``."""
    if image.format == "PNG":
        return _of_png(chunks)
    if image.format == "TIFF":
        return _of_tiff(content)
    iptc = image.info.get("photoshop", {}).get(0x0404)
    return Metadata(_bare(image.info.get("exif", b"")), image.info.get("xmp"), iptc)


def _bare(exif: bytes) -> bytes | None:
    head = b"Exif\0\0"  # some write it twice
    return exif.removeprefix(head).removeprefix(head) or None


def _of_tiff(content: bytes) -> Metadata:
    try:
        values = {
            entry.tag: content[entry.start : entry.end]
            for entry in tiff.read_directory(content)[0]
            if entry.tag in (XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG)
        }
        iptc = values.get(IPTC_TAG) or _iptc(values.get(PHOTOSHOP_TAG, b""))
        return Metadata(tiff.description(content), values.get(XMP_TAG), iptc)
    except (struct.error, ValueError):
        return Metadata(exif=b"damaged")


def _of_png(chunks: Sequence[png.Chunk]) -> Metadata:
    found: dict[str, bytes | None] = {}
    texts = []
    for kind, body in chunks:
        if kind == b"eXIf":
            found["exif"] = _bare(bytes(body))
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            said = _known_text(kind, bytes(body))
            if said is None:
                texts.append(png.chunk(kind, bytes(body)))
            else:
                found = said | found
    return Metadata(**found, text=b"".join(texts) or None)


def _known_text(kind: bytes, body: bytes) -> dict[str, bytes | None] | None:
    """Metadata in a text chunk; None where it is another text, or damaged."""
    keyword = body.partition(b"\0")[0]
    if keyword not in (XMP_KEYWORD, *(RAW_PROFILE + name for name in (b"exif", b"APP1", b"iptc", b"xmp"))):
        return None
    try:
        said = png.read_text(kind, body)
        if keyword == XMP_KEYWORD:
            return {"xmp": said}
        said = bytes.fromhex(said.split(b"\n", 3)[3].decode("ascii"))
    except (ValueError, IndexError, zlib.error):
        return None
    name = keyword.removeprefix(RAW_PROFILE)
    if name == b"iptc":
        records = _iptc(said)
        return {"iptc": records} if records else None
    if name == b"xmp" or said.startswith(XMP_HEADER):
        return {"xmp": said.removeprefix(XMP_HEADER)}
    return {"exif": _bare(said)}

"""EXIF, XMP, IPTC and the texts of a PNG outlive the upscaling, and say of the result what is true of it."""

import random
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from described import (
    CAPTION,
    IPTC,
    NOTES,
    TEXT,
    THUMBNAIL,
    XMP,
    camera_exif,
    described_jpeg,
    described_png,
    described_tiff,
    described_webp,
    sources,
)
from doubling import Doubling
from faults import ends_within
from image_kinds import PROFILE, RGB, noise, png, saved
from PIL import Image

from ssiu.images.decoding import DecodedImage
from ssiu.images.encoding import fit
from ssiu.images.io import image_size, read_image, read_rgb, write_image
from ssiu.images.metadata import Metadata
from ssiu.inference.batch import Report, upscale_files
from ssiu.inference.jobs import Job
from ssiu.inference.upscaler import Upscaler

TARGETS = (".jpg", ".png", ".webp", ".tif")


def upscaled(source: Path, target: Path, **options: bool) -> Report:
    report = upscale_files(Upscaler(Doubling()), [Job(source, target)], target.parent, overwrite=True, **options)
    assert not report.failed and report.done == 1
    return report


def format_name(suffix: str) -> str:
    return {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper())


def as_pillow_reads(path: Path) -> dict[str, object]:
    """What another program finds in a file."""
    with Image.open(path) as image:
        exif, info = image.getexif(), image.info
        inner, gps = dict(exif.get_ifd(34665)), dict(exif.get_ifd(34853))
        found = {
            "orientation": exif.get(274, 1),
            "maker": exif.get(271),
            "artist": exif.get(315),
            "resolution": exif.get(282),
            "exposure": inner.get(33434),
            "ISO": inner.get(34855),
            "notes": inner.get(37500),
            "width": inner.get(40962),
            "height": inner.get(40963),
            "latitude": gps.get(2),
            "thumbnail": exif.get_ifd(1).get(513) if image.format != "TIFF" else None,
            "xmp": info.get("xmp"),
            "size": image.size,
        }
    return found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", sources())
def test_what_a_file_says_is_kept_and_true_of_the_result(tmp_path: Path, name: str, target: str) -> None:
    if "16" in name and target in (".jpg", ".webp"):
        return
    source, kind = tmp_path / name, Path(name).suffix
    source.write_bytes(sources()[name])
    before = as_pillow_reads(source)
    left_out = ["IPTC, which WEBP cannot hold"] if target == ".webp" != kind else []
    left_out += [f"PNG text, which {format_name(target)} cannot hold"] if kind == ".png" != target else []
    height, width = (13, 19) if kind == ".tif" else (19, 13)
    for step in (1, 2):  # the result is an input too
        path = tmp_path / f"step {step}{target}"
        assert list(upscaled(source, path).left_out) == (left_out if step == 1 else [])
        height, width = 2 * height, 2 * width
        after = as_pillow_reads(path)
        assert after["size"] == (after["width"], after["height"]) == (width, height)
        assert after["orientation"] == 1 and after["thumbnail"] is None and THUMBNAIL not in path.read_bytes()
        for what in ("maker", "artist", "resolution", "exposure", "ISO", "notes", "latitude"):
            assert after[what] == before[what] is not None, what
        xmp = after["xmp"]
        assert isinstance(xmp, bytes) and f"<dc:title>{CAPTION}".encode() in xmp and b"Thumbnails" not in xmp
        numbers = re.findall(rb"(?:Orientation|Width|Dimension|Length)\W+(\d+)", xmp)
        assert [int(number) for number in numbers] == [1, width, width, height]
        said = read_image(path).metadata
        assert said.iptc == (None if ".webp" in (kind, target) else IPTC)
        assert said.text == (TEXT if kind == target == ".png" else None)
        source = path


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("target", TARGETS)
def test_a_cameras_notes_stay_at_their_offset_and_all_else_byte_for_byte(
    tmp_path: Path, target: str, order: str
) -> None:
    exif = camera_exif(order)
    (tmp_path / "a.jpg").write_bytes(described_jpeg(exif))
    upscaled(tmp_path / "a.jpg", tmp_path / f"b{target}")
    found = (tmp_path / f"b{target}").read_bytes()
    start = 0 if target == ".tif" else found.index(exif[:4])
    assert found[start + exif.index(NOTES) :].startswith(NOTES)
    kept = found[start : start + len(exif) - len(THUMBNAIL)]
    changed = [at for at in range(8, len(kept)) if kept[at] != exif[at]]
    assert len(changed) <= 4 * 10 + 2 + 4, "five entries, and the offset of the thumbnail's directory"


def test_nothing_is_kept_where_that_is_asked_but_the_colour_profile(tmp_path: Path) -> None:
    for name, content in sources().items():
        (tmp_path / name).write_bytes(content)
        upscaled(tmp_path / name, tmp_path / f"out {Path(name).stem}.png", keep_metadata=False)
        assert read_image(tmp_path / f"out {Path(name).stem}.png").metadata == Metadata()
    (tmp_path / "a.jpg").write_bytes(saved(RGB, "JPEG", icc_profile=PROFILE, exif=camera_exif()))
    report = upscaled(tmp_path / "a.jpg", tmp_path / "a.png", keep_metadata=False)
    assert read_image(tmp_path / "a.png").icc_profile == PROFILE and not report.left_out


BROKEN = {
    "empty": b"",
    "text": b"no EXIF at all",
    "cut": camera_exif()[:30],
    "header": camera_exif()[:8],
    "directory elsewhere": camera_exif()[:4] + b"\xff\xff\xff\x7f" + camera_exif()[8:],
    "EXIF elsewhere": camera_exif("<", 1).replace(b"\x69\x87\4\0\1\0\0\0", b"\x69\x87\5\0\2\0\0\0"),
    "BigTIFF": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + bytes(16),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("make", [described_jpeg, described_png, described_webp])
@pytest.mark.parametrize("target", TARGETS)
def test_damaged_exif_is_left_out_and_fails_no_image(tmp_path: Path, make, broken: str, target: str) -> None:
    (tmp_path / "a").write_bytes(make(exif=BROKEN[broken], xmp=XMP.replace(b'Orientation="6"', b"")))
    np.testing.assert_equal(read_image(tmp_path / "a").pixels.shape, RGB.shape)
    assert read_rgb(tmp_path / "a").shape == RGB.shape and image_size(tmp_path / "a") == RGB.shape[:2]
    report = upscaled(tmp_path / "a", tmp_path / f"b{target}")
    assert ("damaged EXIF" in report.left_out) == (broken != "empty")
    after = read_image(tmp_path / f"b{target}").metadata
    assert after.exif is None and CAPTION.encode() in (after.xmp or b"")


@pytest.mark.parametrize("tag", [34665, 34853])
@pytest.mark.parametrize("target", TARGETS)
def test_a_tiff_whose_exif_lies_nowhere_is_read(tmp_path: Path, tag: int, target: str) -> None:
    content = bytearray(described_tiff())
    at = content.index(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0")
    content[at + 8 : at + 12] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), RGB)
    assert "damaged EXIF" in upscaled(tmp_path / "a.tif", tmp_path / f"b{target}").left_out


def test_65535_tags_take_no_longer_than_their_bytes(tmp_path: Path) -> None:
    entries = b"".join(struct.pack("<HHII", tag, 1, 200, 16) for tag in range(65_535))
    exif = bytearray(camera_exif())
    struct.pack_into("<I", exif, exif.index(struct.pack("<HHI", 34665, 4, 1)) + 8, len(exif))
    exif += struct.pack("<H", 65_535) + entries + bytes(4)
    (tmp_path / "a.png").write_bytes(described_png(exif=bytes(exif)))
    with ends_within(30):
        upscaled(tmp_path / "a.png", tmp_path / "a.tif")
        upscaled(tmp_path / "a.tif", tmp_path / "b.png")


@pytest.mark.parametrize("make", [described_jpeg, described_png, described_webp])
def test_any_bytes_at_all_in_exif_fail_no_image(tmp_path: Path, make) -> None:
    dice = random.Random(7)
    for _ in range(30):
        exif = bytearray(camera_exif(dice.choice("<>")))
        for _ in range(dice.choice((1, 3, 20))):
            at = dice.randrange(len(exif) - len(THUMBNAIL))
            exif[at : at + 4] = dice.choice((bytes(4), b"\xff" * 4, dice.randbytes(4), exif[8:12]))
        (tmp_path / "a").write_bytes(make(exif=bytes(exif)))
        image = read_image(tmp_path / "a")
        image = replace(image, metadata=image.metadata.resized(*image.pixels.shape[:2])[0])
        for target in TARGETS:
            write_image(tmp_path / f"b{target}", image)
            assert read_image(tmp_path / f"b{target}").pixels.shape == image.pixels.shape


@pytest.mark.parametrize("what, most", [("exif", 65_527), ("xmp", 65_504), ("iptc", 65_506)])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_too_long_for_a_jpeg_is_left_out_of_it_alone(tmp_path: Path, what: str, most: int, target: str) -> None:
    start = {"exif": camera_exif("<", 1), "xmp": b"<x/>", "iptc": IPTC}[what]
    for length in (most, most + 1, 3_000_000):
        value = start.ljust(length, b" ")
        image = DecodedImage(noise(3), metadata=Metadata(**{what: value}))
        expected = []
        if target == ".jpg" and length > most:
            expected = [f"{what.upper()}, which JPEG holds up to {most:,} bytes"]
        elif (target, what) == (".webp", "iptc"):
            expected = ["IPTC, which WEBP cannot hold"]
        assert fit(image, target)[1] == expected
        write_image(tmp_path / f"a{target}", image)
        back = getattr(read_image(tmp_path / f"a{target}").metadata, what)
        if (target, what) == (".tif", "exif"):
            assert NOTES in back  # the padding belongs to nothing
        else:
            assert back == (None if expected else value)


def test_xmp_that_goes_on_in_other_segments_is_kept_without_them_and_said(tmp_path: Path) -> None:
    xmp = XMP.replace(b"tiff:Orientation", b'xmpNote:HasExtendedXMP="0123456789ABCDEF" tiff:Orientation')
    (tmp_path / "a.jpg").write_bytes(described_jpeg(xmp=xmp))
    assert "extended XMP" in upscaled(tmp_path / "a.jpg", tmp_path / "b.jpg").left_out
    after = read_image(tmp_path / "b.jpg").metadata.xmp
    assert after and b"Extended" not in after and CAPTION.encode() in after


def test_hostile_xmp_takes_no_longer_than_its_bytes(tmp_path: Path) -> None:
    with ends_within(20):
        for piece in (
            b"<xmp:Thumbnails>",
            b"tiff:Orientation ",
            b"tiff:Orientation" + 4000 * b" ",
            b'xmpNote:HasExtendedXMP="',
        ):
            said = Metadata(xmp=(piece * (3_000_000 // len(piece))))
            assert said.orientation == 1
            said.resized(20, 30)


@pytest.mark.parametrize("keyword", ["exif", "APP1"])
def test_exif_as_old_imagemagick_kept_it_in_png_turns_and_is_kept(tmp_path: Path, keyword: str) -> None:
    exif = b"Exif\0\0" + camera_exif()
    profile = zlib.compress(f"\n{keyword}\n{len(exif):8}\n{exif.hex()}\n".encode())
    content = png(RGB, 8, 2, zTXt=f"Raw profile type {keyword}\0\0".encode() + profile)
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, np.rot90(RGB, -1))
    upscaled(tmp_path / "a.png", tmp_path / "b.png")
    assert as_pillow_reads(tmp_path / "b.png")["maker"] == "Canon"
    assert read_image(tmp_path / "b.png").metadata.orientation == 1


def test_bmp_holds_none_of_it_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(described_png())
    report = upscaled(tmp_path / "a.png", tmp_path / "a.bmp")
    assert list(report.left_out) == [f"{what}, which BMP cannot hold" for what in ("EXIF", "XMP", "IPTC", "PNG text")]

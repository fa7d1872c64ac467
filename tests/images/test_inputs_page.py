"""Every row of the tables of docs/inputs.md, tried with both readers and the whole of `upscale_files`."""

import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from described import camera_exif, described_png, sources
from doubling import Doubling
from faults import ends_within
from image_kinds import (
    GRAY,
    OPAQUE,
    PALETTES,
    PILLOW,
    PNG_KINDS,
    PROFILE,
    RGB,
    RGB16,
    RGBA,
    chunk,
    noise,
    noise_png,
    png,
    read_kinds,
    refused_kinds,
    saved,
    tiff,
    tiff_by_hand,
    two,
)  # fmt: skip
from PIL import Image

from ssiu.errors import BadInputError, SSIUError
from ssiu.images.io import image_size, read_image, read_rgb
from ssiu.inference.batch import upscale_files
from ssiu.inference.jobs import Job, plan
from ssiu.inference.upscaler import Upscaler

PAGE = (Path(__file__).parents[2] / "docs/inputs.md").read_text(encoding="utf-8")
FLAT_ALPHA = np.dstack([RGB, np.full_like(GRAY, 77)])
READ, REFUSED = read_kinds(), refused_kinds()


def of(kinds: dict[str, bytes], *patterns: str) -> dict[str, bytes]:
    """Those whose names match one of the ``patterns``; each must match one."""
    assert all(any(re.fullmatch(pattern, name) for name in kinds) for pattern in patterns), patterns
    return {name: kinds[name] for name in kinds if any(re.fullmatch(pattern, name) for pattern in patterns)}


def table(title: str) -> dict[str, list[str]]:
    """First cell -> the other cells of the table under this title."""
    rows = PAGE.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")]
    return {first: others for first, *others in cells[2:]}


# row -> files; those in the second place are refused as training images
READ_ROWS: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {
    "8-bit RGB: PNG, JPEG (also `.jfif`), WebP, TIFF, BMP": (
        of(
            READ,
            "8 bits, type 2.png",
            "95.jpg",
            "progressive.jfif",
            "lossy.webp",
            "RGB (?!16).*tif",
            "RGB.bmp",
            "[RX].*5.bmp",
            "jpeg.tif",
        )
        | {name: READ[name] for name in ("planes.tif", "lossless.webp")},
        {},
    ),
    "gray, 1, 2, 4 or 8 bits, in TIFF also where 0 is white": (
        {f"{depth}.png": noise_png(depth, colour) for depth, colour in PNG_KINDS if colour == 0 and depth < 16}
        | of(READ, "gray.jpg", "gray.bmp", "1 bit.bmp", "L tiff.*", "1 tiff.*", "white is 0.tif"),
        {},
    ),
    "16 bits: gray (in TIFF also where 0 is white), RGB, RGBA in PNG or TIFF, gray with alpha in PNG": (
        {},
        {f"{colour}.png": noise_png(16, colour) for depth, colour in PNG_KINDS if depth == 16}
        | of(READ, "RGB 16.*tif", "gray 16.*tif", "RGBA 16.tif", "white is 0, 16.tif"),
    ),
    "palette, 1 to 8 bits": (
        {f"{depth}.png": noise_png(depth, 3) for depth, _ in PALETTES} | of(READ, "P tiff.*", "palette.bmp"),
        of(READ, "keyed palette.png"),
    ),
    "alpha (gray or RGB), or a transparent colour (tRNS)": (
        of(READ, "opaque.png", "alpha.bmp"),
        of(READ, "8 bits, type [46].png", "alpha.webp", "keyed.png", "keyed gray.png"),
    ),
    "one value of alpha everywhere": ({"a.png": saved(OPAQUE, "PNG")}, {"b.png": saved(FLAT_ALPHA, "PNG")}),
    "premultiplied alpha in an 8-bit RGB TIFF": (
        {"a.tif": tiff(OPAQUE, extrasamples=["assocalpha"])},
        {"b.tif": tiff(RGBA, extrasamples=["assocalpha"])},
    ),
    "a fourth sample in TIFF that is said to be no alpha": ({"a.tif": tiff(RGBA, extrasamples=["unspecified"])}, {}),
    "interlaced PNG": ({"a.png": noise_png(8, 2, True), "b.png": noise_png(4, 3, True)}, {}),
    "EXIF orientation of JPEG, WebP, TIFF": (of(READ, "turned.jpg", "turned.webp", "turned.tif"), {}),
    "EXIF orientation of PNG": (of(READ, "turned.png"), {}),
    "ICC profile": ({f"a.{kind}": saved(PILLOW, kind, icc_profile=PROFILE) for kind in ("png", "jpeg", "webp")}, {}),
    "EXIF, XMP, IPTC, the texts of a PNG": (
        of(sources(), "II.jpg", "MM.webp", "II.tif") | {"upright.png": described_png(exif=camera_exif("<", 1))},
        {},
    ),
    "a camera's JPEG with previews behind it (MPO)": ({"a.jpg": two("MPO")}, {}),
    "1x1, 1x300, 200x1": (
        {f"{h}x{w}.png": png(noise(3, np.uint8, h, w), 8, 2) for h, w in ((1, 1), (1, 300), (200, 1))},
        {},
    ),
}
WHOLE = png(RGB, 8, 2)
REFUSED_ROWS: dict[str, dict[str, bytes]] = {
    "TIFF of 10, 12, 14, 24 or 32 bits, of signed, floating-point or complex samples": (
        of(REFUSED, r"1[024] bits\.tif", r"(gray|RGB) (u?int(8|16|32)|float\d+)\.tif")
        | {"complex.tif": tiff(GRAY.astype(np.complex64), "minisblack")}
    ),
    "TIFF compressed by JPEG 2000, JPEG XL, LERC, PNG or WebP; at 16 bits also by JPEG, CCITT, LZMA or Zstandard": (
        of(REFUSED, ".*compression.*")
    ),
    "TIFF whose tiles are listed as strips; big-endian BigTIFF": of(REFUSED, "tiles as.*", "MM BigTIFF.*"),
    "BMP with 4 or 10 bits a channel, or with one bit of alpha": of(REFUSED, "[AR][14].*bmp"),
    "TIFF of 16 bits in separate planes": of(REFUSED, "planes 16.tif"),
    "premultiplied alpha at 16 bits, or with gray": of(REFUSED, "premultiplied.*"),
    "gray with alpha in a 16-bit TIFF, more than four samples": (
        of(REFUSED, "minisblack 16.tif")
        | {"five.tif": tiff(noise(5, np.uint16), extrasamples=["unassalpha", "unspecified"])}
    ),
    "CMYK, Lab, YCbCr (other than in JPEG)": of(REFUSED, "CMYK.*", "Lab.*", "YCbCr.*", "(cielab|ycbcr|separated) 16.*"),
    "animated PNG or WebP, TIFF with several pages": of(REFUSED, "animated.*", "pages.tif"),
    "truncated; a flipped bit anywhere in a PNG; PNG without all its rows or its palette, though its checksums are right": (  # noqa: E501
        of(REFUSED, "half.*", "no palette.png", "wrong depth.png")
        | {f"cut{Path(name).suffix}": READ[name][:-20] for name in ("95.jpg", "lossless.webp", "RGB.bmp", "RGB <.tif")}
        | {"cut 16.tif": tiff(RGB16)[:-20], "cut.png": WHOLE[:-6]}
        | {f"{at}.png": WHOLE[:at] + bytes([WHOLE[at] ^ 4]) + WHOLE[at + 1 :] for at in range(40, len(WHOLE), 50)}
    ),
    "text named .png, an empty file, a GIF named .png": of(REFUSED, "text.jpg", "empty.png", "GIF.png"),
    "more than 64 megapixels declared": {
        f"{side}.png": WHOLE[:8] + chunk(b"IHDR", side.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0") + WHOLE[33:]
        for side in (8_001, 20_000, 100_000)
    },
    "TIFF with tiles of more than 64 megapixels": {
        f"{name}.tif": tiff_by_hand({256: 64, 257: 64, 322: side, 323: side, 259: compression}, zlib.compress(GRAY))
        for name, side, compression in (("zip", 20_000, 8), ("vast", 2**31, 8), ("lzw", 8_001, 5))
    },
    "a folder, a pipe, a device; a file of more than 0.58 GB": {},
}


def with_holes(path: Path, content: bytes, size: int) -> Path:
    """A file of ``size`` bytes that begins as an image does."""
    path.write_bytes(content)
    os.truncate(path, size)
    return path


SPECIAL: dict[str, Callable[[Path], Path]] = {
    "folder.png": lambda path: path.mkdir() or path,
    "pipe.png": lambda path: os.mkfifo(path) or path,
    "holes.bmp": lambda path: with_holes(path, READ["RGB.bmp"], 30 * 10**9),
    "holes.png": lambda path: with_holes(path, WHOLE, 10**9),
    "null.png": lambda path: path.symlink_to("/dev/null") or path,
}
WRITTEN_ROWS: dict[str, list[tuple[bytes, str]]] = {
    "`upscale`: alpha to JPEG or BMP, 16 bits to JPEG, WebP or BMP": [
        *((saved(RGBA, "PNG"), suffix) for suffix in (".jpg", ".bmp")),
        *((tiff(RGB16), suffix) for suffix in (".jpg", ".webp", ".bmp")),
    ],
    "`upscale`: an SR side above 65,500 (JPEG) or 16,383 (WebP)": [
        (saved(Image.new("RGB", (32_751, 1)), "PNG"), ".jpg"),
        (saved(Image.new("RGB", (8_192, 1)), "PNG"), ".webp"),
    ],
}


def test_the_page_has_just_these_rows() -> None:
    assert list(table("What is read")) == list(READ_ROWS)
    assert list(table("What is refused")) == [*REFUSED_ROWS, *WRITTEN_ROWS]


@pytest.mark.parametrize("row", READ_ROWS)
def test_what_is_read(tmp_path: Path, row: str) -> None:
    fit, unfit = READ_ROWS[row]
    (tmp_path / "in").mkdir()
    for name, content in {**fit, **unfit}.items():
        (tmp_path / "in" / name).write_bytes(content)
    for name in unfit:
        (reason,) = re.findall('refused: "(.*)"', table("What is read")[row][1]) or ["transparent pixels"]
        with pytest.raises(BadInputError, match=f"{re.escape(name)}: .*{reason}"):
            read_rgb(tmp_path / "in" / name)
    report = upscale_files(Upscaler(Doubling()), plan([str(tmp_path / "in")], tmp_path / "out"), tmp_path / "out")
    assert not report.failed and report.done == len(fit | unfit) > 0
    for name in fit | unfit:
        before, after = (read_image(tmp_path / folder / name) for folder in ("in", "out"))
        height, width, _ = before.pixels.shape
        assert after.pixels.shape[:2] == (2 * height, 2 * width) and after.pixels.dtype == before.pixels.dtype
        assert after.icc_profile == before.icc_profile
        if name in fit:
            rgb = read_rgb(tmp_path / "in" / name)
            assert rgb.shape == (*image_size(tmp_path / "in" / name), 3) and rgb.dtype == np.uint8
            if row != "EXIF orientation of PNG":
                colours = before.pixels if before.pixels.shape[2] in (1, 3) else before.pixels[..., :-1]
                np.testing.assert_array_equal(rgb, np.broadcast_to(colours, rgb.shape))
            else:
                np.testing.assert_array_equal(np.rot90(rgb, -1), before.pixels)


@pytest.mark.parametrize("row", REFUSED_ROWS)
def test_what_is_refused(tmp_path: Path, row: str) -> None:
    files = []
    for name, content in REFUSED_ROWS[row].items():
        files.append(tmp_path / name)
        files[-1].write_bytes(content)
    if not files:
        files = [make(tmp_path / name) for name, make in SPECIAL.items()]
    reasons = re.findall('"(.+?)"', table("What is refused")[row][0])
    (tmp_path / "good.png").write_bytes(WHOLE)
    jobs = [Job(path, tmp_path / "out" / path.name) for path in [*files, tmp_path / "good.png"]]
    with ends_within(60):
        report = upscale_files(Upscaler(Doubling()), jobs, tmp_path / "out")
    assert report.done == 1 and [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    assert len(report.failed) == len(files)
    for path in files:
        (line,) = (line for line in report.failed if line.startswith(f"{path}: "))
        assert any(reason in line for reason in reasons), line
        with pytest.raises(SSIUError) as caught:
            read_rgb(path)
        assert str(caught.value) == line
    for reason in reasons:
        assert any(reason in line for line in report.failed), f"{reason} is said of none"


@pytest.mark.parametrize("row", WRITTEN_ROWS)
def test_what_cannot_be_written(tmp_path: Path, row: str) -> None:
    (reason,) = re.findall('"(.+?)"', table("What is refused")[row][0])
    for number, (content, suffix) in enumerate(WRITTEN_ROWS[row]):
        path = tmp_path / f"{number}.png"
        path.write_bytes(content)
        report = upscale_files(Upscaler(Doubling()), [Job(path, tmp_path / f"out/{number}{suffix}")], tmp_path / "out")
        assert report.done == 0 and reason in report.failed[0] and str(path) in report.failed[0]
    assert not list((tmp_path / "out").iterdir())

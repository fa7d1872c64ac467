"""Images are read exactly or refused with the file's name."""

import io
import logging
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from faults import ends_within
from image_kinds import PALETTES, PNG_KINDS, chunk, noise_png, refused_kinds
from PIL import Image

from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.images import io as images
from ssiu.images.decoding import PNG_SIGNATURE
from ssiu.images.io import image_size, read_image, read_rgb, save_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (21, 34, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (21, 34), dtype=np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand: any bit depth and colour type, also those Pillow cannot write."""

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_lossless_formats_return_the_very_pixels(tmp_path: Path) -> None:
    for suffix in (".png", ".webp", ".bmp", ".tif", ".TIFF"):
        path = tmp_path / f"pic ture é{suffix}"
        save_image(path, RGB)
        np.testing.assert_array_equal(read_rgb(path), RGB, err_msg=suffix)
        assert image_size(path) == (21, 34)
    assert [path.suffix for path in tmp_path.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "tRNS that hides nothing"])
def test_other_modes_become_rgb_exactly(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(GRAY)
    expected = GRAY
    options = {}
    if mode == "1":
        image = Image.fromarray(GRAY > 99)
        expected = (GRAY > 99) * np.uint8(255)
    elif mode in ("P", "LA", "RGBA"):
        image = image.convert(mode)
    elif mode != "L":
        image = Image.fromarray(np.maximum(GRAY, 1)).convert("RGB")
        expected = np.maximum(GRAY, 1)
        options = {"transparency": (0, 0, 0)}
    image.save(tmp_path / "a.png", **options)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_low_bit_depths_are_spread_over_the_whole_range(tmp_path: Path, depth: int) -> None:
    (tmp_path / "a.png").write_bytes(png(1, 2, depth, 0, b"\0\0\0" + bytes([(2**depth - 1) << (8 - depth)])))
    assert read_rgb(tmp_path / "a.png")[:, 0, 0].tolist() == [0, 255]


def test_gray_is_mentioned_once(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(images, "_gray_reported", False)
    save_image(tmp_path / "a.png", GRAY)
    with caplog.at_level(logging.INFO, "ssiu"):
        read_rgb(tmp_path / "a.png")
        read_rgb(tmp_path / "a.png")
    assert len(caplog.records) == 1 and "a.png" in caplog.text


def _sixteen_bit_tiff() -> bytes:
    import cv2

    return cv2.imencode(".tif", RGB.astype(np.uint16) * 257)[1].tobytes()


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


REFUSED = {
    "gray 16.png": (lambda: png(2, 1, 16, 0, b"\0" + bytes(4)), "16 bits"),
    "rgb 16.png": (lambda: png(1, 1, 16, 2, b"\0" + bytes(6)), "16 bits"),
    "gray-alpha 16.png": (lambda: png(1, 1, 16, 4, b"\0" + b"\xff" * 4), "16 bits"),
    "rgba 16.png": (lambda: png(1, 1, 16, 6, b"\0" + b"\xff" * 8), "16 bits"),
    "rgb 16.tif": (_sixteen_bit_tiff, "16 bits"),
    "gray 16.tif": (lambda: _saved(Image.fromarray(GRAY.astype(np.uint16)), "TIFF"), "16 bits"),
    "float.tif": (lambda: _saved(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "bits"),
    "cmyk.jpg": (lambda: _saved(Image.new("CMYK", (4, 4)), "JPEG"), "CMYK"),
    "see-through.png": (lambda: _saved(Image.fromarray(np.dstack([RGB, GRAY])), "PNG"), "transparent"),
    "see-through gray.png": (
        lambda: _saved(Image.fromarray(GRAY).convert("LA").point(lambda v: v // 2), "PNG"),
        "transp",
    ),
    "keyed.png": (lambda: _saved(Image.new("RGB", (4, 4)), "PNG", transparency=(0, 0, 0)), "transparent"),
    "palette with a hole.png": (lambda: _saved(Image.new("P", (4, 4)), "PNG", transparency=0), "transparent"),
    "see-through.webp": (lambda: _saved(Image.fromarray(np.dstack([RGB, GRAY])), "WEBP", lossless=True), "transparent"),
    "text.png": (lambda: b"no image", "not a readable image"),
    "empty.png": (lambda: b"", "not a readable image"),
    "animation.png": (lambda: _saved(Image.new("P", (4, 4)), "GIF"), "not a readable image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_exactly_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(BadInputError) as caught:
        read_rgb(tmp_path / name)
    message = str(caught.value)
    assert str(tmp_path / name) in message and reason in message and "\n" not in message


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for read in (read_rgb, image_size):
        with pytest.raises(MissingInputError, match=r"absent.png"):
            read(tmp_path / "absent.png")
        with pytest.raises(BadInputError, match=r"folder.png.*folder"):
            read(tmp_path / "folder.png")


def damaged(content: bytes, how: str, position: int) -> bytes:
    if how == "cut":
        return content[:position]
    return content[:position] + bytes([content[position] ^ 0x40]) + content[position + 1 :]


@pytest.mark.parametrize("how", ["cut", "flip"])
def test_every_one_of_200_damages_of_a_png_is_found(tmp_path: Path, how: str) -> None:
    save_image(tmp_path / "good.png", RGB)
    content = (tmp_path / "good.png").read_bytes()
    for position in np.random.default_rng(5).integers(0, len(content), 200):
        path = tmp_path / f"{how} {position}.png"
        path.write_bytes(damaged(content, how, position))
        with pytest.raises(BadInputError) as caught:
            read_rgb(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".tif"])
def test_truncation_of_the_other_formats_is_found(tmp_path: Path, suffix: str) -> None:
    save_image(tmp_path / f"good{suffix}", RGB)
    content = (tmp_path / f"good{suffix}").read_bytes()
    for part in (0.1, 0.5, 0.9):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(BadInputError, match="cut"):
            read_rgb(path)


def test_a_small_file_that_declares_400_megapixels_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(20_000, 20_000, 1, 0, bytes(2501 * 20_000)))
    assert path.stat().st_size < 60_000
    tracemalloc.start()
    start = time.perf_counter()
    for read in (image_size, read_rgb):
        with pytest.raises(BadInputError, match=r"bomb.png"):
            read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 1 and peak < 20_000_000


@pytest.mark.parametrize(
    ("width", "height", "declared"), [(20_000, 20_000, "more than 179"), (8001, 8000, "8001x8000 = 64.008")]
)
def test_more_than_pillows_limit_or_ours_is_large_not_damaged(
    tmp_path: Path, width: int, height: int, declared: str
) -> None:
    (tmp_path / "bomb.png").write_bytes(png(width, height, 1, 0, b""))
    for read in (image_size, read_rgb):
        with pytest.raises(
            BadInputError, match=rf"bomb\.png: declares {declared} megapixels; at most 64 are read: cut it into parts$"
        ):
            read(tmp_path / "bomb.png")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth, colour", PNG_KINDS + PALETTES)
def test_a_png_that_lacks_a_row_is_damaged_though_its_checksums_are_right(
    tmp_path: Path, depth: int, colour: int, interlaced: bool
) -> None:
    whole = noise_png(depth, colour, interlaced)
    (tmp_path / "a.png").write_bytes(whole)
    if depth < 16 and colour in (0, 2, 3):
        assert read_rgb(tmp_path / "a.png").shape == (13, 19, 3)
    start = whole.index(b"IDAT")
    size = int.from_bytes(whole[start - 4 : start], "big")
    rows = zlib.decompress(whole[start + 4 : start + 4 + size])
    for kept in (0, len(rows) // 2, len(rows) - 1):
        cut = chunk(b"IDAT", zlib.compress(rows[:kept])) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(whole[: start - 4] + cut)
        with pytest.raises(BadInputError, match=r"a\.png: damaged PNG \(the last .* bytes of its rows are missing"):
            read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("name", refused_kinds())
def test_training_images_are_refused_wherever_upscale_refuses_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(refused_kinds()[name])
    messages = []
    for reader in (read_rgb, read_image):
        with pytest.raises(BadInputError) as caught:
            reader(tmp_path / name)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_transparent_colour_of_few_bits_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(noise_png(2, 0, tRNS=b"\0\1"))  # Pillow compares it with the 8-bit gray
    with pytest.raises(BadInputError, match="transparent pixels"):
        read_rgb(tmp_path / "a.png")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_rgb, image_size):
        with ends_within(10), pytest.raises(BadInputError, match=r"pipe\.png: is a pipe or device"):
            read(tmp_path / "pipe.png")


def test_the_pixel_limit_can_be_moved(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", RGB)
    assert read_rgb(tmp_path / "a.png", max_pixels=21 * 34).shape == (21, 34, 3)
    with pytest.raises(BadInputError, match=r"34x21"):
        read_rgb(tmp_path / "a.png", max_pixels=21 * 34 - 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_photographs_are_turned_as_their_camera_says(tmp_path: Path, orientation: int, kind: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    previews = {"save_all": True, "append_images": [Image.fromarray(RGB).resize((4, 4))]} if kind == "MPO" else {}
    Image.fromarray(RGB).save(path, kind, quality=95, exif=exif, **previews)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_rgb(path), expected)
    assert image_size(path) == expected.shape[:2]


def test_images_are_never_written_through_a_link_or_as_an_unknown_kind(tmp_path: Path) -> None:
    save_image(tmp_path / "sentinel.png", RGB)
    before = (tmp_path / "sentinel.png").read_bytes()
    (tmp_path / "link.png").symlink_to(tmp_path / "sentinel.png")
    with pytest.raises(OutputError, match="link"):
        save_image(tmp_path / "link.png", GRAY)
    with pytest.raises(OutputError, match="gif"):
        save_image(tmp_path / "a.gif", RGB)
    assert (tmp_path / "sentinel.png").read_bytes() == before
    np.testing.assert_array_equal(read_rgb(tmp_path / "link.png"), RGB)  # links to input are followed

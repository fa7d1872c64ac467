"""Every kind of image gives its very samples; damage, and what would cost too much, is found."""

import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_kinds import CHANNELS, PALETTES, PNG_KINDS, RGB, chunk, noise, noise_png, packed_tiff, png, tiff, two
from PIL import Image

from ssiu.errors import BadInputError
from ssiu.images.io import image_size, read_image, read_rgb, save_image

RNG = np.random.default_rng(0)


def declaring(width: int, height: int, rows: bytes) -> bytes:
    """A PNG of one bit that says it is as large, whatever rows there are."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"
    whole = png(np.zeros((1, 1, 1)), 1, 0)
    return whole[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth, colour", [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4),
                                           (8, 6), (16, 6), (1, 3), (2, 3), (4, 3), (8, 3)])  # fmt: skip
def test_every_kind_of_png_gives_its_very_samples(tmp_path: Path, depth: int, colour: int, interlaced: bool) -> None:
    samples = RNG.integers(0, 2**depth, (13, 19, CHANNELS[colour])).astype(np.uint16)
    palette = RNG.integers(0, 256, (2**depth if colour == 3 else 1, 3)).astype(np.uint8)
    chunks = {"PLTE": palette.tobytes()} if colour == 3 else {}
    (tmp_path / "a.png").write_bytes(png(samples, depth, colour, interlaced, **chunks))
    pixels = read_image(tmp_path / "a.png").pixels
    expected = palette[samples[..., 0]] if colour == 3 else samples if depth >= 8 else samples * (255 // (2**depth - 1))
    assert pixels.dtype == (np.uint16 if depth == 16 else np.uint8)
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("depth, colour", [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (2, 3), (8, 3)])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, depth: int, colour: int) -> None:
    samples = RNG.integers(0, 2**depth, (13, 19, CHANNELS[colour])).astype(np.uint16)
    palette = RNG.integers(0, 256, (2**depth if colour == 3 else 1, 3)).astype(np.uint8)
    if colour == 3:
        steps = np.array([0, 100, 255], np.uint8)  # entry 0 hidden, entry 1 half so, the rest opaque
        chunks = {"PLTE": palette.tobytes(), "tRNS": steps.tobytes()}
        alpha = np.minimum(samples[..., 0], 2)
        alpha = steps[alpha]
    else:
        chunks = {"tRNS": samples[3, 5].astype(">u2").tobytes()}
        alpha = np.where((samples == samples[3, 5]).all(2), 0, 65535 if depth == 16 else 255)
    (tmp_path / "a.png").write_bytes(png(samples, depth, colour, **chunks))
    pixels = read_image(tmp_path / "a.png").pixels
    assert pixels.shape[2] == (4 if colour else 2)
    np.testing.assert_array_equal(pixels[..., -1], alpha)
    assert alpha[3, 5] == 0 or colour == 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_images_are_turned_as_their_camera_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(3, np.uint8)).save(tmp_path / f"a{suffix}", exif=exif)
    with Image.open(tmp_path / f"a{suffix}") as image:
        expected = np.array(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, expected)


def test_a_turned_16_bit_tiff_is_shown_upright(tmp_path: Path) -> None:
    pixels = noise(3, np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff(pixels, extratags=[(274, "H", 1, 6, True)]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, np.rot90(pixels, -1))


def test_a_16_bit_tiff_whose_white_is_0_is_no_negative(tmp_path: Path) -> None:
    pixels = noise(1, np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff(pixels[..., 0], "miniswhite"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, 65535 - pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("meaning", ["unassalpha", "unspecified", "assocalpha"])
def test_a_fourth_sample_is_alpha_only_where_the_file_says_so(tmp_path: Path, dtype: type, meaning: str) -> None:
    pixels = noise(4, dtype)
    pixels[..., :3] //= 2
    pixels[..., 3] |= 128 if dtype == np.uint8 else 32768  # premultiplied colours are at most alpha
    (tmp_path / "a.tif").write_bytes(tiff(pixels, extrasamples=[meaning]))
    if meaning == "assocalpha" and dtype == np.uint16:
        with pytest.raises(BadInputError, match=r"a\.tif: a TIFF of 16 bits with premultiplied alpha"):
            read_image(tmp_path / "a.tif")
        return
    found = read_image(tmp_path / "a.tif").pixels
    if meaning == "unassalpha":
        np.testing.assert_array_equal(found, pixels)
    elif meaning == "unspecified":
        np.testing.assert_array_equal(found, pixels[..., :3])
    else:
        straight = 255 * pixels[..., :3].astype(int) // pixels[..., 3:]
        np.testing.assert_array_equal(found, np.dstack([straight, pixels[..., 3]]))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 4}])
def test_a_cut_16_bit_tiff_is_called_damaged(tmp_path: Path, options: dict) -> None:
    whole = tiff(noise(3, np.uint16), **options)
    for size in range(20, len(whole) - 1, len(whole) // 50):
        (tmp_path / "a.tif").write_bytes(whole[:size])
        with pytest.raises(BadInputError, match=r"a\.tif: damaged|a\.tif: a TIFF of|not a readable"):
            read_image(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(whole[:-100])
    with pytest.raises(BadInputError, match=r"a\.tif: damaged TIFF \(its 16-bit samples, .*\); fetch it again"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("bits, kind", [(10, ""), (12, ""), (14, ""), (16, ", floating point"), (16, ", signed")])
def test_samples_of_other_depths_and_kinds_are_named(tmp_path: Path, bits: int, kind: str) -> None:
    dtype = np.float16 if "float" in kind else np.int16
    content = tiff(np.ones((5, 4), dtype), "minisblack") if kind else packed_tiff(bits)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(BadInputError, match=rf"a\.tif: {bits} bits per sample{kind}; expected .*: convert it first$"):
        read_image(tmp_path / "a.tif")


def test_a_cameras_jpeg_with_a_preview_behind_it_is_one_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(two("MPO"))
    assert read_image(tmp_path / "a.jpg").pixels.shape == RGB.shape


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
    path.write_bytes(declaring(20_000, 20_000, bytes(2501 * 20_000)))
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
    (tmp_path / "bomb.png").write_bytes(declaring(width, height, b""))
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


def test_a_transparent_colour_of_few_bits_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(noise_png(2, 0, tRNS=b"\0\1"))  # Pillow compares it with the 8-bit gray
    with pytest.raises(BadInputError, match="transparent pixels"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("kind, body", [(b"IDAT", b""), (b"tEXt", b"a\0b"), (b"prIv", b"...")])
def test_a_png_of_47000_chunks_is_read_in_the_time_of_its_bytes(tmp_path: Path, kind: bytes, body: bytes) -> None:
    whole = png(RGB, 8, 2)
    (tmp_path / "a.png").write_bytes(whole[:33] + 47_000 * chunk(kind, body) + whole[33:])
    start = time.process_time()
    for read in (lambda path: read_image(path).pixels, read_rgb):
        np.testing.assert_array_equal(read(tmp_path / "a.png"), RGB)
    assert time.process_time() - start < 10


def text_chunks(length: int) -> dict[str, bytes]:
    """The chunks of a PNG that hold as many bytes, compressed."""
    body = zlib.compress(bytes(length))
    return {"iCCP": b"p\0\0" + body, "zTXt": b"t\0\0" + body, "iTXt": b"t\0\1\0\0\0" + body}


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "iTXt"])
def test_a_png_may_hold_60_mb_of_text_or_profile_but_not_more(tmp_path: Path, kind: str) -> None:
    readers = (image_size, read_rgb, read_image)
    for length in (1_500_000, 60_000_000):
        (tmp_path / "a.png").write_bytes(png(RGB, 8, 2, **{kind: text_chunks(length)[kind]}))
        for read in readers:
            read(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(png(RGB, 8, 2, **{kind: text_chunks(70_000_000)[kind]}))
    for read in readers:
        with pytest.raises(BadInputError, match=r"a\.png: more than 67 MB of text or colour profile: remove it first$"):
            read(tmp_path / "a.png")

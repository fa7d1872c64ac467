"""Every kind of image is read as it is and written without loss."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_kinds import CHANNELS, packed_tiff, png, tiff
from PIL import Image, ImageCms

from ssiu.errors import BadInputError, OutputError
from ssiu.images.decoding import DecodedImage
from ssiu.images.io import read_image, write_image

RNG = np.random.default_rng(0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SUFFIXES = (".png", ".tif", ".webp", ".bmp", ".jpg")


def noise(channels: int, dtype: type, height: int = 21, width: int = 34) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max + 1, (height, width, channels)).astype(dtype)


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


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype", "kept"),
    [
        (".webp", 1, np.uint8, False), (".webp", 2, np.uint8, False), (".tif", 2, np.uint16, False),
        (".png", 1, np.uint8, True), (".png", 2, np.uint16, True), (".jpg", 1, np.uint8, True),
        (".tif", 1, np.uint8, True), (".tif", 2, np.uint8, True), (".tif", 1, np.uint16, True),
    ],
)  # fmt: skip
def test_a_profile_of_gray_stays_where_gray_does(
    tmp_path: Path, suffix: str, channels: int, dtype: type, kept: bool
) -> None:
    profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    write_image(tmp_path / f"a{suffix}", DecodedImage(noise(channels, dtype), profile))
    found = read_image(tmp_path / f"a{suffix}")
    assert found.pixels.shape[2] == channels + (0 if kept else 2)
    assert found.icc_profile == (profile if kept else None)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_a_format_can_hold_comes_back_and_the_rest_is_refused(
    tmp_path: Path, suffix: str, channels: int, dtype: type
) -> None:
    path = tmp_path / f"a{suffix}"
    image = DecodedImage(noise(channels, dtype), PROFILE)
    if (channels in (2, 4) and suffix in (".jpg", ".bmp")) or (dtype == np.uint16 and suffix not in (".png", ".tif")):
        with pytest.raises(OutputError, match=r"cannot hold (transparency|16 bits).*write png"):
            write_image(path, image)
        assert not path.exists()
        return
    write_image(path, image)
    back = read_image(path)
    assert back.icc_profile == (None if suffix == ".bmp" else PROFILE)
    expected = image.pixels
    if back.pixels.shape[2] > channels:  # WebP has no gray, and few programs read 16-bit TIFFs of gray with alpha
        assert (suffix, dtype) in ((".webp", np.uint8), (".tif", np.uint16))
        expected = expected[..., [0, 0, 0, 1][: channels + 2]]
    assert back.pixels.dtype == dtype
    if suffix == ".jpg":
        assert back.pixels.shape == expected.shape
    else:
        np.testing.assert_array_equal(back.pixels, expected)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 300), (200, 1), (64, 5), (65, 5), (129, 33)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_our_png_of_any_size_is_read_by_others(tmp_path: Path, height: int, width: int, dtype: type) -> None:
    import cv2

    pixels = noise(3, dtype, height, width)
    write_image(tmp_path / "a.png", DecodedImage(pixels))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)[..., ::-1], pixels)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()


def test_a_png_of_a_photograph_is_no_larger_than_pillows(tmp_path: Path) -> None:
    from skimage.data import astronaut

    write_image(tmp_path / "ours.png", DecodedImage(astronaut()))
    Image.fromarray(astronaut()).save(tmp_path / "pillow.png", compress_level=3)
    assert (tmp_path / "ours.png").stat().st_size < 1.05 * (tmp_path / "pillow.png").stat().st_size


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
    with pytest.raises(BadInputError, match=r"a\.tif: damaged image \(its 16-bit samples, .*\); fetch it again"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("bits, kind", [(10, ""), (12, ""), (14, ""), (16, ", floating point"), (16, ", signed")])
def test_samples_of_other_depths_and_kinds_are_named(tmp_path: Path, bits: int, kind: str) -> None:
    dtype = np.float16 if "float" in kind else np.int16
    content = tiff(np.ones((5, 4), dtype), "minisblack") if kind else packed_tiff(bits)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(BadInputError, match=rf"a\.tif: {bits} bits per sample{kind}; expected .*: convert it first$"):
        read_image(tmp_path / "a.tif")


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


RGB = Image.new("RGB", (8, 8), (10, 20, 30))
REFUSED = {
    "cmyk.jpg": (lambda: _saved(RGB.convert("CMYK"), "JPEG"), "CMYK"),
    "float.tif": (lambda: _saved(Image.new("F", (8, 8)), "TIFF"), "floating point"),
    "32 bits.tif": (lambda: _saved(Image.new("I", (8, 8)), "TIFF"), "32 bits"),
    "lab.tif": (lambda: _saved(Image.new("LAB", (8, 8)), "TIFF"), "mode LAB"),
    "animated.png": (lambda: _saved(RGB, "PNG", save_all=True, append_images=[RGB.rotate(9)]), "2 frames"),
    "animated.webp": (lambda: _saved(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(9)]), "2 frames"),
    "pages.tif": (lambda: _saved(RGB, "TIFF", save_all=True, append_images=[RGB]), "2 frames or pages"),
    "animation.gif.png": (lambda: _saved(RGB, "GIF"), "not a readable image"),
    "cut.png": (lambda: png(noise(3, np.uint16), 16, 2)[:-5], "truncated"),
    "flipped.png": (lambda: png(noise(3, np.uint16), 16, 2)[:-30] + bytes(30), "checksum"),
    "wrong depth.png": (lambda: png(noise(3, np.uint8), 5, 2), "damaged|not a readable"),
    "no palette.png": (lambda: png(noise(1, np.uint8), 8, 3), "damaged|not a readable|palette"),
    "cut.tif": (lambda: _saved(RGB, "TIFF")[:40], "damaged|not a readable"),
    "text.jpg": (lambda: b"hello", "not a readable image"),
    "empty.bmp": (lambda: b"", "not a readable image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(tmp_path: Path, name: str) -> None:
    import re

    content, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(BadInputError) as caught:
        read_image(tmp_path / name)
    message = str(caught.value)
    assert str(tmp_path / name) in message and re.search(reason, message) and "\n" not in message


def test_a_cameras_jpeg_with_a_preview_behind_it_is_one_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(_saved(RGB, "MPO", save_all=True, append_images=[RGB.resize((4, 4))]))
    assert read_image(tmp_path / "a.jpg").pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("suffix, side", [(".webp", 16_384), (".jpg", 65_501)])
def test_a_image_too_large_for_the_format_is_refused(tmp_path: Path, suffix: str, side: int) -> None:
    with pytest.raises(OutputError, match=rf"{side}.*write png"):
        write_image(tmp_path / f"a{suffix}", DecodedImage(np.zeros((1, side, 3), np.uint8)))
    write_image(tmp_path / f"a{suffix}", DecodedImage(np.zeros((1, side - 1, 3), np.uint8)))
    assert read_image(tmp_path / f"a{suffix}").pixels.shape[1] == side - 1

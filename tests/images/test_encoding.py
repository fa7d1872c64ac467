"""What a format can hold comes back; the rest is refused before it is lost."""

from pathlib import Path

import numpy as np
import pytest
from image_kinds import PROFILE, noise, tiff
from PIL import Image

from ssiu.errors import OutputError
from ssiu.images.decoding import DecodedImage
from ssiu.images.io import read_image, write_image


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


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp", ".jpg"])
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


@pytest.mark.parametrize("suffix, side", [(".webp", 16_384), (".jpg", 65_501)])
def test_a_image_too_large_for_the_format_is_refused(tmp_path: Path, suffix: str, side: int) -> None:
    with pytest.raises(OutputError, match=rf"{side}.*write png"):
        write_image(tmp_path / f"a{suffix}", DecodedImage(np.zeros((1, side, 3), np.uint8)))
    write_image(tmp_path / f"a{suffix}", DecodedImage(np.zeros((1, side - 1, 3), np.uint8)))
    assert read_image(tmp_path / f"a{suffix}").pixels.shape[1] == side - 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_what_is_written_with_a_large_profile_is_read_again(tmp_path: Path, suffix: str) -> None:
    profile = PROFILE + np.random.default_rng(0).bytes(1_500_000)
    for name in ("once", "again"):
        write_image(tmp_path / f"{name}{suffix}", DecodedImage(noise(3), profile))
        assert read_image(tmp_path / f"{name}{suffix}").icc_profile == profile
        profile = read_image(tmp_path / f"{name}{suffix}").icc_profile


@pytest.mark.parametrize("tag", [("s", 0, "text"), ("H", 1, 5), ("I", 2, (7, 8)), ("d", 1, 0.5)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_a_tiff_whose_profile_is_no_bytes_has_none(tmp_path: Path, suffix: str, tag: tuple) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(noise(3), extratags=[(34675, *tag, True)]))
    write_image(tmp_path / f"b{suffix}", read_image(tmp_path / "a.tif"))
    assert read_image(tmp_path / f"b{suffix}").icc_profile is None

"""Training images are 8-bit RGB or refused by name; files are found, opened and written as they should be."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from faults import ends_within
from image_kinds import noise, png, refused_kinds
from PIL import Image

from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.images import io as images
from ssiu.images.io import image_size, read_image, read_rgb, save_image

RGB, GRAY = noise(3, height=21, width=34), noise(1, height=21, width=34)[..., 0]


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
    (tmp_path / "a.png").write_bytes(png(np.array([[[0]], [[2**depth - 1]]]), depth, 0))
    assert read_rgb(tmp_path / "a.png")[:, 0, 0].tolist() == [0, 255]


def test_gray_is_mentioned_once(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(images, "_gray_reported", False)
    save_image(tmp_path / "a.png", GRAY)
    with caplog.at_level(logging.INFO, "ssiu"):
        read_rgb(tmp_path / "a.png")
        read_rgb(tmp_path / "a.png")
    assert len(caplog.records) == 1 and "a.png" in caplog.text


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for read in (read_rgb, image_size):
        with pytest.raises(MissingInputError, match=r"absent.png"):
            read(tmp_path / "absent.png")
        with pytest.raises(BadInputError, match=r"folder.png.*folder"):
            read(tmp_path / "folder.png")


@pytest.mark.parametrize("name", refused_kinds())
def test_training_images_are_refused_wherever_upscale_refuses_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(refused_kinds()[name])
    messages = []
    for reader in (read_rgb, read_image):
        with pytest.raises(BadInputError) as caught:
            reader(tmp_path / name)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


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

"""The page of `ssiu export web` in a real browser: it reads and makes what `ssiu upscale` reads and makes."""

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_kinds import PILLOW, read_kinds, refused_kinds, saved, turned
from PIL import Image, ImageCms
from small_sets import photo
from torch import nn
from web_site import PIXELS, Page, assert_same, export_site, serving, upscaled, wait_for

from ssiu import Upscaler, load_model
from ssiu.errors import BadInputError
from ssiu.images.bicubic import imresize
from ssiu.images.decoding import DecodedImage
from ssiu.images.io import read_image, write_image
from ssiu.web.site import page_server

pytestmark = pytest.mark.slow  # a network is exported first

SUFFIXES = (".png", ".jpg", ".jfif", ".webp")


@pytest.mark.parametrize(
    "name, scale, tiled",
    [("head", 2, False), ("butterfly", 2, True), ("bird", 4, False), ("baby", 4, True)],
)
def test_an_image_of_set5_becomes_what_ssiu_upscale_makes_of_it(
    page: Page, networks: dict[int, nn.Module], shared: Path, tmp_path: Path, name: str, scale: int, tiled: bool
) -> None:
    lr = read_image(shared / f"data/benchmark/Set5/LR_bicubic/X{scale}/{name}x{scale}.png").pixels
    lr = lr if tiled else np.ascontiguousarray(lr[:53, :70])
    assert (lr.shape[0] * lr.shape[1] > PIXELS) == tiled
    write_image(tmp_path / "a.png", DecodedImage(lr))
    assert_same(upscaled(page, tmp_path / "a.png", scale).pixels, Upscaler(networks[scale], tile=0)(lr))


def decoded(page: Page, content: bytes, scale: int = 2) -> dict[str, Any]:
    """What the page's own code reads from a file, or the line it says."""
    return page.evaluate(
        """async ([content, scale]) => {
             const {readImage} = await import("./image_files.js");
             const file = new Blob([Uint8Array.from(atob(content), letter => letter.charCodeAt(0))]);
             try {
               const image = await readImage(file, scale);
               const {width, height, channels, icc} = image, kind = image.pixels.constructor.name;
               return {width, height, channels, kind, pixels: [...image.pixels], icc: icc && [...icc]};
             } catch (error) { return {kind: error.constructor.name, line: error.message}; }
           }""",
        [base64.b64encode(content).decode(), scale],
    )


def test_every_kind_of_file_is_read_as_python_reads_it(page: Page, tmp_path: Path) -> None:
    kinds = {name: content for name, content in read_kinds().items() if name.endswith(SUFFIXES)}
    for turn in range(1, 9):
        for suffix, kind in ((".jpg", "JPEG"), (".webp", "WEBP"), (".png", "PNG")):
            kinds[f"turned {turn}{suffix}"] = saved(PILLOW, kind, exif=turned(turn), lossless=True)
    rgba = Image.fromarray(photo("chelsea", 40, 60)).convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    kinds["lossy alpha.webp"] = saved(rgba, "WEBP", quality=90)
    kinds["turned alpha.webp"] = saved(rgba, "WEBP", lossless=True, exact=True, exif=turned(8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # means other colours, if it counted
    for suffix, kind in ((".jpg", "JPEG"), (".webp", "WEBP"), (".png", "PNG")):
        kinds[f"profile{suffix}"] = saved(PILLOW, kind, icc_profile=profile, lossless=True)
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
        expected = read_image(tmp_path / name)
        found = decoded(page, content)
        assert "line" not in found, f"{name}: {found}"
        assert found["kind"] == {"uint8": "Uint8Array", "uint16": "Uint16Array"}[expected.pixels.dtype.name], name
        pixels = np.reshape(found["pixels"], (found["height"], found["width"], found["channels"]))
        assert pixels.shape == expected.pixels.shape, name
        lossy = "JPEG" in str(Image.open(tmp_path / name).format) or name.startswith("lossy")
        assert np.abs(pixels - expected.pixels.astype(int)).max() <= (3 if lossy else 0), name
        assert (expected.icc_profile and list(expected.icc_profile)) == found["icc"], name


def test_what_python_refuses_is_refused_in_one_line(page: Page, tmp_path: Path) -> None:
    kinds = {name: content for name, content in refused_kinds().items() if name.endswith(SUFFIXES)}
    for name, content in (
        ("a.png", saved(PILLOW, "PNG")),
        ("a.jpg", saved(PILLOW, "JPEG")),
        ("a.webp", saved(PILLOW, "WEBP")),
    ):
        for length in (len(content) // 2, len(content) - 3, 30, 12):
            kinds[f"{length} of {name}"] = content[:length]
    flipped = bytearray(saved(PILLOW, "PNG"))
    flipped[100] ^= 1
    kinds["flipped.png"] = bytes(flipped)
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInputError):
            read_image(tmp_path / name)
        found = decoded(page, content)
        assert found["kind"] == "Refused" and found["line"].count("\n") == 0, f"{name}: {found}"


def test_what_is_nearly_transparent_keeps_its_colour(
    page: Page, networks: dict[int, nn.Module], tmp_path: Path
) -> None:
    faint = np.zeros((16, 20, 4), np.uint8) + np.array([200, 100, 50, 3], np.uint8)
    for kind, name in (("PNG", "faint.png"), ("WEBP", "faint.webp")):
        content = saved(faint, kind, lossless=True)
        (tmp_path / name).write_bytes(content)
        assert decoded(page, content)["pixels"][:4] == [200, 100, 50, 3]
        sr = upscaled(page, tmp_path / name).pixels
        expected = Upscaler(networks[2])(faint)
        assert_same(sr, expected)
        assert (sr[..., 3] == 3).all() and np.ptp(expected[..., 0]) > 3, "the colours are the network's"


@pytest.mark.parametrize("kind", ["alpha", "hidden", "gray", "gray and alpha", "16 bits", "turned"])
def test_kinds_of_images_become_what_ssiu_upscale_makes_of_them(
    page: Page, networks: dict[int, nn.Module], tmp_path: Path, kind: str
) -> None:
    rgb = photo("astronaut", 30, 41)
    ramp = np.tile(np.linspace(0, 255, 41).astype(np.uint8), (30, 1))[..., None]
    pixels = {
        "alpha": np.dstack([rgb, np.maximum(ramp, 1)]),
        "hidden": np.dstack([rgb * (ramp > 90), ramp * (ramp > 90)]),
        "gray": rgb[..., :1],
        "gray and alpha": np.dstack([rgb[..., :1], ramp]),
        "16 bits": rgb.astype(np.uint16) * 257,
        "turned": rgb,
    }[kind]
    image = tmp_path / "a.png"
    if kind == "turned":
        image = tmp_path / "a.jpg"
        Image.fromarray(rgb).save(image, exif=turned(6), quality=95, subsampling=0)
        pixels = read_image(image).pixels
        assert pixels.shape == (41, 30, 3)
    else:
        write_image(image, DecodedImage(pixels))
    sr, expected = upscaled(page, image).pixels, Upscaler(networks[2])(pixels)
    if kind == "hidden":
        sr, expected = (each[:, 40:] for each in (sr, expected))  # which of two pixels equally near is not defined
    assert_same(sr, expected)


def test_bicubic_is_that_of_the_tables(page: Page) -> None:
    lr = photo("coffee", 6, 9)
    for scale in (2, 3, 4):
        found = page.evaluate(
            """async ([pixels, scale]) => {
                 const {bicubic} = await import("./upscaler.js");
                 return [...bicubic({pixels: new Uint8Array(pixels), width: 9, height: 6, channels: 3}, scale).pixels];
               }""",
            [lr.ravel().tolist(), scale],
        )
        assert np.abs(np.reshape(found, (6 * scale, 9 * scale, 3)) - imresize(lr, scale=scale).astype(int)).max() <= 1


def test_webgpu_makes_the_same_image(
    opened: Callable[..., Page], address: str, networks: dict[int, nn.Module], tmp_path: Path
) -> None:
    page = opened(address)
    wait_for(page, "Ready")
    write_image(tmp_path / "a.png", DecodedImage(photo("chelsea", 16, 16)))
    assert page.locator("#backend").input_value() == "cpu", "this one is computed by the CPU anyway"
    page.locator("#backend").select_option("gpu")
    assert_same(upscaled(page, tmp_path / "a.png").pixels, Upscaler(networks[2])(photo("chelsea", 16, 16)))
    assert page.locator("#backend").input_value() == "gpu"


@pytest.mark.full
@pytest.mark.parametrize("scale", [2, 4])
def test_the_shipped_network_makes_what_ssiu_upscale_makes(
    opened: Callable[..., Page], shared: Path, tmp_path: Path, scale: int
) -> None:
    network = load_model(scale)
    with serving(page_server(export_site(tmp_path / "site", {"shipped": network}, tmp_path), 0)) as url:
        path = shared / f"data/benchmark/Set5/LR_bicubic/X{scale}/butterflyx{scale}.png"
        image = Path(shutil.copy(path, tmp_path))
        page = opened(url)
        assert_same(upscaled(page, image, scale).pixels, Upscaler(network)(read_image(image).pixels))

"""The page of `ssiu export web` in a real browser: how it is used, and what it says where it cannot go on."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_kinds import PILLOW, saved
from PIL import Image
from small_sets import photo
from torch import nn
from web_site import (
    LONGEST,
    PIXELS,
    Page,
    assert_same,
    downloaded,
    export_site,
    plain_server,
    problem,
    serving,
    start,
    upscaled,
    wait_for,
)

from ssiu import Upscaler
from ssiu.images.decoding import DecodedImage
from ssiu.images.io import write_image
from ssiu.models.base import SRNetwork

pytestmark = pytest.mark.slow  # a network is exported first


def test_the_result_is_shown_under_the_slider_of_the_report(page: Page, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", DecodedImage(photo("coffee", 24, 31)))
    upscaled(page, tmp_path / "a.png", 4)
    figure = page.locator("figure")
    assert figure.locator(".tag").all_inner_texts() == ["bicubic", "SSIU"]
    assert figure.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)") == [124, 124]
    figure.locator(".view").press("ArrowLeft")
    assert figure.locator(".divider").evaluate("line => line.style.left") == "48%"
    layers = [figure.locator(f".layer:has(img[alt={name}])") for name in ("bicubic", "SSIU")]
    cuts = [layer.evaluate("layer => layer.style.clipPath") for layer in layers]
    assert cuts == ["inset(0px 52% 0px 0px)", "inset(0px 0px 0px 48%)"]
    figure.get_by_label("zoom in").click()
    assert figure.locator("output").inner_text() == "2\N{MULTIPLICATION SIGN}"


def test_a_broken_file_is_a_line_and_the_next_image_is_upscaled(page: Page, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(saved(PILLOW, "PNG")[:200])
    start(page, tmp_path / "broken.png")
    assert problem(page) == "broken.png: damaged PNG (it is truncated)."
    assert not page.locator("#running").is_visible() and not page.locator("#result").is_visible()
    (tmp_path / "a.png").write_bytes(saved(PILLOW, "PNG"))
    assert upscaled(page, tmp_path / "a.png").pixels.shape == (26, 38, 3)


def test_an_image_of_8000_pixels_a_side_is_refused_before_it_is_unpacked(page: Page, tmp_path: Path) -> None:
    Image.new("1", (8000, 8000)).save(tmp_path / "large.png")
    start(page, tmp_path / "large.png")
    said = problem(page)
    assert (
        "8000\N{MULTIPLICATION SIGN}8000 is too large: it would become 256 megapixels" in said and "at most 64" in said
    )


def test_a_cancelled_run_stops_at_once_and_the_next_one_works(page: Page, tmp_path: Path) -> None:
    write_image(tmp_path / "long.png", DecodedImage(photo("astronaut", 340, 330)))
    start(page, tmp_path / "long.png", 4)
    page.locator("#left", has_text="left").wait_for()
    assert 0 <= page.locator("#progress").evaluate("bar => bar.value") < 1
    page.locator("#cancel").press("Enter")
    wait_for(page, "long.png: cancelled.")
    assert not page.locator("#running").is_visible()
    assert page.evaluate("document.activeElement.id") == "start"
    write_image(tmp_path / "a.png", DecodedImage(photo("astronaut", 20, 20)))
    assert upscaled(page, tmp_path / "a.png", 4).pixels.shape == (80, 80, 3)


def test_another_image_takes_the_place_of_the_one_that_is_upscaled(page: Page, tmp_path: Path) -> None:
    write_image(tmp_path / "long.png", DecodedImage(photo("astronaut", 340, 330)))
    start(page, tmp_path / "long.png", 4)
    page.locator("#status", has_text="Upscaling long.png").wait_for()
    write_image(tmp_path / "a.png", DecodedImage(photo("astronaut", 20, 21)))
    page.locator("#file").set_input_files(tmp_path / "a.png")
    wait_for(page, "a.png is ready")
    assert downloaded(page, "a_x4.png", tmp_path / "page.png").pixels.shape == (80, 84, 3)


def test_where_the_gpu_fails_the_cpu_goes_on(browser: Any, address: str, tmp_path: Path) -> None:
    page = browser.new_context(service_workers="block").new_page()
    page.context.set_default_timeout(LONGEST)
    page.context.route("**/ort.webgpu.js", lambda route: route.abort())
    page.goto(address)
    wait_for(page, "Ready")
    write_image(tmp_path / "a.png", DecodedImage(photo("chelsea", 16, 16)))
    page.locator("#backend").select_option("gpu")
    assert problem(page) == "The GPU cannot run the network here; continuing with the CPU."
    assert page.locator("#backend").input_value() == "cpu"
    start(page, tmp_path / "a.png")
    wait_for(page, "a.png is ready")
    page.context.close()


def test_where_memory_does_not_suffice_tiles_become_smaller(
    browser: Any, address: str, site: Path, tmp_path: Path
) -> None:
    page = browser.new_context(service_workers="block").new_page()
    page.context.set_default_timeout(LONGEST)
    needy = "{pixels: most, multiple, margin}, onProgress) {"
    source = (site / "upscaler.js").read_text()
    assert needy in source
    source = source.replace(needy, needy + ' if (most > 30000) throw new Error("std::bad_alloc");')
    page.context.route("**/upscaler.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    settings = (site / "models.json").read_text().replace(str(PIXELS), "40000")
    page.context.route("**/models.json", lambda route: route.fulfill(body=settings, content_type="application/json"))
    page.goto(address)
    write_image(tmp_path / "a.png", DecodedImage(photo("chelsea", 16, 16)))
    start(page, tmp_path / "a.png")
    page.locator("#status", has_text="a.png is ready").wait_for()
    assert problem(page) == "Not enough memory; trying smaller tiles."
    source = source.replace("30000", "300")
    start(page, tmp_path / "a.png")
    page.locator("#problem", has_text="close other tabs").wait_for()
    assert "std::bad_alloc" in problem(page)
    page.context.close()


def test_where_the_network_cannot_be_loaded_it_is_a_line(opened: Callable[..., Page], address: str) -> None:
    page = opened(address, lambda context: context.route("**/models.json", lambda route: route.abort()))
    assert problem(page) == "The network could not be loaded; load the page again when there is a connection."


@pytest.mark.parametrize("absent", ["WebAssembly", "CompressionStream", "OffscreenCanvas"])
def test_a_browser_that_cannot_is_told_so(opened: Callable[..., Page], address: str, absent: str) -> None:
    page = opened(address, lambda context: context.add_init_script(f"delete globalThis.{absent}"))
    assert "This browser lacks" in problem(page) and "which this page needs" in problem(page)
    assert page.locator("#form").evaluate("form => form.inert")


def test_it_works_offline_once_loaded_and_has_threads_on_any_host(
    opened: Callable[..., Page], site: Path, networks: dict[int, nn.Module], tmp_path: Path
) -> None:
    with serving(plain_server(site)) as url:
        page = opened(url)
        assert not page.evaluate("crossOriginIsolated")
        page.locator("#offline", has_text="works offline").wait_for()
    write_image(tmp_path / "a.png", DecodedImage(photo("chelsea", 20, 30)))
    page.reload()
    assert page.evaluate("crossOriginIsolated"), "the service worker adds the headers, so there are threads"
    for scale in (2, 4):
        sr = upscaled(page, tmp_path / "a.png", scale).pixels
        assert_same(sr, Upscaler(networks[scale])(photo("chelsea", 20, 30)))


class Brightens(SRNetwork):
    """x4 by repetition, and brighter; it is exported in a moment."""

    takes_tile_offset = True

    def __init__(self, by: float) -> None:
        super().__init__(4)
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, lr: torch.Tensor, tile_offset: torch.Tensor | None = None) -> torch.Tensor:
        sr = nn.functional.interpolate(lr, scale_factor=4) + self.by
        return sr if tile_offset is None else sr + 0 * tile_offset.sum()


def test_after_a_new_export_the_page_holds_the_new_weights_with_and_without_a_network(
    opened: Callable[..., Page], cache: Path, tmp_path: Path
) -> None:
    """The service worker of the first export keeps nothing alive, nor do the addresses of its files."""
    earlier, later = Brightens(0.0).eval(), Brightens(0.1).eval()
    site, image = tmp_path / "site", tmp_path / "a.png"
    write_image(image, DecodedImage(photo("chelsea", 20, 30)))
    expected = [Upscaler(network)(photo("chelsea", 20, 30)) for network in (earlier, later)]
    assert np.abs(expected[0].astype(int) - expected[1]).max() > 20
    with serving(plain_server(export_site(site, {"first.safetensors": earlier}, cache))) as url:
        page = opened(url)
        page.locator("#offline", has_text="works offline").wait_for()
        assert "first.safetensors, sha256" in page.locator("#weights").inner_text()
        assert_same(upscaled(page, image, 4).pixels, expected[0])
        export_site(site, {"second.safetensors": later}, cache)
        page.reload()
        page.locator("#offline", has_text="works offline").wait_for()
        assert "second.safetensors, sha256" in page.locator("#weights").inner_text()
        assert_same(upscaled(page, image, 4).pixels, expected[1])
        page.wait_for_function("async () => (await caches.keys()).length === 1")
    page.reload()  # the server is gone
    page.locator("#weights", has_text="second.safetensors").wait_for()
    assert_same(upscaled(page, image, 4).pixels, expected[1])


FILE = """async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0)), moved = new DataTransfer();
  moved.items.add(new File([bytes], name, {type: "image/png"}));
"""


@pytest.mark.parametrize(
    "event",
    [
        'document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: moved}))',
        'document.querySelector("h1").dispatchEvent(new DragEvent("drop", {dataTransfer: moved, bubbles: true}))',
    ],
    ids=["paste", "drop"],
)
def test_an_image_can_be_pasted_and_dropped(page: Page, event: str) -> None:
    name = event[40:44] + ".png"
    page.evaluate(FILE + event + "}", [name, base64.b64encode(saved(PILLOW, "PNG")).decode()])
    wait_for(page, f"{name} is ready")


def test_everything_can_be_done_by_keyboard(page: Page, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", DecodedImage(photo("chelsea", 16, 20)))
    upscaled(page, tmp_path / "a.png", 4)
    page.locator("#file").focus()
    assert page.locator("#drop").evaluate("label => getComputedStyle(label).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert page.locator("[name=scale]:checked").input_value() == "3"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    wait_for(page, "a.png is ready: 40\N{MULTIPLICATION SIGN}32")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.type"
            )
        )
    assert {"backend", "start", "button", "view", "range"} <= set(reached)


def test_the_page_fits_and_follows_the_colour_scheme(page: Page, tmp_path: Path) -> None:
    name = "a" + "_long_name" * 12 + ".png"
    write_image(tmp_path / name, DecodedImage(photo("chelsea", 30, 20)))
    upscaled(page, tmp_path / name)
    for width, scheme in ((1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")):
        page.set_viewport_size({"width": width, "height": 780})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        colours = (
            "['backgroundColor', 'color'].map(key => getComputedStyle(document.body)[key].match(/\\d+/g).map(Number))"
        )
        paper, ink = (sum(colour[:3]) for colour in page.evaluate(colours))
        assert (paper < ink) == (scheme == "dark") and abs(paper - ink) > 400

"""The page of `ssiu export web` in a real browser: it makes what `ssiu upscale` makes, and says what it cannot do."""

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_kinds import PILLOW, read_kinds, refused_kinds, saved, turned
from PIL import Image, ImageCms
from small_sets import photo
from tiny import tiny
from torch import nn
from web_site import PIXELS, export_site, plain_server, serving

from ssiu import Upscaler, load_model
from ssiu.data.bicubic import imresize
from ssiu.errors import BadInputError
from ssiu.report.web_page import page_server
from ssiu.upscaling.image_files import DecodedImage, read_image, write_image

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
LONGEST = 120_000  # ms, on a busy machine
SUFFIXES = (".png", ".jpg", ".jfif", ".webp")
Page = Any


@pytest.fixture(scope="module")
def networks() -> dict[int, nn.Module]:
    return {scale: tiny(scale).eval() for scale in (2, 4)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, networks: dict[int, nn.Module]) -> Path:
    return export_site(tmp_path_factory.mktemp("web") / "site", list(networks.values()))


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Without threads: these wait for one another on a machine that is busy."""
    with serving(plain_server(site)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(browser: Any) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end nothing may have been asked of anybody else, nor be reported on the console."""
    contexts, complaints = [], []

    def open_page(url: str, before: Callable[[Any], object] = lambda context: None, **options: object) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(LONGEST)
        foreign = lambda request: not request.url.startswith((url, "blob:", "data:"))  # noqa: E731
        context.on("request", lambda request: complaints.extend([request.url] * foreign(request)))
        context.on("console", lambda message: complaints.append(message.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        before(context)
        page = context.new_page()
        page.goto(url)
        contexts.append(context)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [
        said for said in complaints if "net::ERR_FAILED" not in said
    ] == []  # that is said where there is no network


@pytest.fixture(scope="module")
def page(opened: Callable[..., Page], address: str) -> Page:
    """One for the tests that leave it as it was."""
    return opened(address)


def start(page: Page, image: Path, scale: int = 2) -> None:
    page.locator(f"[name=scale][value='{scale}']").check()
    page.locator("#file").set_input_files(image)


def wait_for(page: Page, status: str) -> None:
    page.locator("#status", has_text=status).wait_for()
    assert not page.locator("#problem").is_visible(), page.locator("#problem").inner_text()


def upscaled(page: Page, image: Path, scale: int = 2) -> DecodedImage:
    """What the page gives to download."""
    start(page, image, scale)
    wait_for(page, f"{image.name} is ready")
    return downloaded(page, f"{image.stem}_x{scale}.png", image.parent / "page.png")


def downloaded(page: Page, name: str, to: Path) -> DecodedImage:
    with page.expect_download() as download:
        page.locator("a[download]").click()
    assert download.value.suggested_filename == name
    download.value.save_as(to)
    return read_image(to)


def assert_same(ours: np.ndarray, expected: np.ndarray) -> None:
    assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
    level = 1 if ours.dtype == np.uint8 else 257
    different = np.abs(ours.astype(int) - expected) > level
    assert different.mean() < 1e-3


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


def problem(page: Page) -> str:
    page.locator("#problem:not(:empty)").wait_for()
    return page.locator("#problem").inner_text()


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


def test_where_the_gpu_fails_the_cpu_goes_on(browser: Any, address: str, tmp_path: Path) -> None:
    page = browser.new_context(service_workers="block").new_page()
    page.context.set_default_timeout(LONGEST)
    page.context.route("**/ort.webgpu.js", lambda route: route.abort())
    page.goto(address)
    wait_for(page, "Ready")
    write_image(tmp_path / "a.png", DecodedImage(photo("chelsea", 16, 16)))
    page.locator("#backend").select_option("gpu")
    assert problem(page) == "The GPU cannot run the network here; going on with the CPU."
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
    assert problem(page) == "The memory does not suffice; trying smaller tiles."
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
        page.locator("#offline", has_text="without a network").wait_for()
    write_image(tmp_path / "a.png", DecodedImage(photo("chelsea", 20, 30)))
    page.reload()
    assert page.evaluate("crossOriginIsolated"), "the service worker adds the headers, so there are threads"
    for scale in (2, 4):
        sr = upscaled(page, tmp_path / "a.png", scale).pixels
        assert_same(sr, Upscaler(networks[scale])(photo("chelsea", 20, 30)))


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


@pytest.mark.full
@pytest.mark.parametrize("scale", [2, 4])
def test_the_shipped_network_makes_what_ssiu_upscale_makes(
    opened: Callable[..., Page], shared: Path, tmp_path: Path, scale: int
) -> None:
    network = load_model(scale)
    with serving(page_server(export_site(tmp_path / "site", [network]), 0)) as url:
        path = shared / f"data/benchmark/Set5/LR_bicubic/X{scale}/butterflyx{scale}.png"
        image = Path(shutil.copy(path, tmp_path))
        page = opened(url)
        assert_same(upscaled(page, image, scale).pixels, Upscaler(network)(read_image(image).pixels))

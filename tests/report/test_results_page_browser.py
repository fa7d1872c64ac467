"""report.html in a real browser: Debian's chromium, driven by Playwright."""

import json
import time

import pytest
from pages import write_page
from printed import printed
from small_sets import small_set

from ssiu.evaluation.metrics import Score
from ssiu.report.tables import cell


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    return write_page(small_set(root, 2), root / "out", ["Set5"])


@pytest.fixture
def opened(browser, report):
    """Opens the report; at the end nothing may have been requested from outside or reported on the console."""
    pages, complaints, requests = [], [], []

    def open_page(path=report, **options):
        page = browser.new_context(**options).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert complaints == []
    assert all(url.startswith(("data:", "file:")) for url in requests)
    assert sum(url.startswith("file:") for url in requests) == len(pages)


def test_numbers_are_those_of_summary_json(opened, report):
    texts = opened().locator("table").first.locator("tbody td").all_inner_texts()
    cells = [text.replace("\xa0", " ") for text in texts]
    protocols = json.loads((report.parent / "summary.json").read_text())["protocols"]
    expected = [
        printed(cell(Score(sets["Set5"]["psnr"], sets["Set5"]["ssim"]), protocol))
        for protocol, sets in protocols.items()
    ]
    assert [cells[0], cells[1], *cells[3:5]] == ["Set5", "3", *expected]


def test_columns_sort_both_ways(opened):
    page = opened()
    column = page.locator("table.sortable th", has_text="PSNR (standard)").first
    index = column.evaluate("th => th.cellIndex")
    values = f"table => [...table.tBodies[0].rows].map(row => Number(row.cells[{index}].dataset.value))"
    column.locator("button").click()
    rising = page.locator("table.sortable").evaluate(values)
    assert column.get_attribute("aria-sort") == "ascending"
    assert rising == sorted(rising) and len(set(rising)) == 3
    column.locator("button").press("Enter")
    assert page.locator("table.sortable").evaluate(values) == rising[::-1]
    assert column.get_attribute("aria-sort") == "descending"
    page.locator("table.sortable th button", has_text="image").click()
    assert page.locator("table.sortable td:nth-child(2)").all_inner_texts() == ["astronaut", "chelsea", "coffee"]
    assert column.get_attribute("aria-sort") is None


def _divider(figure):
    return float(figure.locator(".divider").evaluate("line => parseFloat(line.style.left)"))


def _words(page):
    """Whether the words for fingers, and those for a mouse, are seen."""
    return tuple(page.locator(f"p.{device}").first.is_visible() for device in ("touch", "mouse"))


def test_the_line_follows_the_pointer_the_keys_and_the_slider(opened):
    page = opened()
    assert _words(page) == (False, True)
    figure = page.locator("figure").first
    view = figure.locator(".view")
    view.scroll_into_view_if_needed()
    assert _divider(figure) == 50
    box = view.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 40, steps=4)
    page.mouse.up()
    assert _divider(figure) == pytest.approx(25, abs=1)
    assert "25" in figure.locator(".layer:has(img[alt=SR])").evaluate("layer => layer.style.clipPath")
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 40)
    assert _divider(figure) == pytest.approx(25, abs=1), "the pointer is up"
    before = _divider(figure)
    view.press("ArrowRight")
    assert _divider(figure) == pytest.approx(before + 2)
    figure.locator("input[type=range]").fill("80")
    assert _divider(figure) == 80
    figure.locator("input[type=range]").press("ArrowLeft")
    assert _divider(figure) == 79.5


def test_zoom_and_pan_show_the_same_place_of_both_images(opened):
    page = opened()
    figure = page.locator("figure").first
    view = figure.locator(".view")
    figure.get_by_label("zoom in").click()
    view.press("+")
    assert figure.locator("output").inner_text() == "4\N{MULTIPLICATION SIGN}"
    place = "img => { const b = img.getBoundingClientRect(), v = img.closest('.view').getBoundingClientRect(); "
    place += "return [(v.x - b.x) / b.width, (v.y - b.y) / b.height, b.width / v.width] }"

    def places():
        return [figure.locator(f"img[alt={name}]").evaluate(place) for name in ("bicubic", "SR")]

    assert places()[0] == pytest.approx([0.375, 0.375, 4], abs=1e-3)
    view.press("Shift+ArrowRight")
    left, right = places()
    assert left == pytest.approx(right)
    assert left[:2] == pytest.approx([0.4, 0.375], abs=1e-3)
    box = view.bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 30 + box["width"] / 10, box["y"] + 30, steps=3)
    page.mouse.up()
    assert places()[0][0] == pytest.approx(0.375, abs=5e-3)
    for _ in range(4):
        view.press("-")
    assert places()[0] == pytest.approx([0, 0, 1], abs=1e-3)
    assert figure.get_by_label("zoom out").is_disabled()


def test_the_error_map_is_black_where_sr_is_right_and_bright_where_it_is_wrong(opened):
    page = opened()
    figure = page.locator("figure").first
    assert not figure.locator(".legend").is_visible()
    figure.get_by_label("right image").select_option("error")
    assert figure.locator(".legend").is_visible()
    read = """canvas => { const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              let dark = 255, bright = 0;
              for (let i = 0; i < d.length; i += 4) { dark = Math.min(dark, d[i]); bright = Math.max(bright, d[i]); }
              return [canvas.width, dark, bright]; }"""
    width, dark, bright = figure.locator("canvas").evaluate(read)
    assert width == figure.locator("img").first.evaluate("image => image.naturalWidth")
    assert dark < 40 and bright > 100
    figure.get_by_label("left image").select_option("HR")
    assert figure.locator("img[alt=HR]").is_visible()
    assert not figure.locator("img[alt=bicubic]").is_visible()


PLACE = """img => { const b = img.getBoundingClientRect(), v = img.closest('.view').getBoundingClientRect();
           return [(v.x - b.x) / b.width, (v.y - b.y) / b.height, b.width / v.width] }"""


def _place(figure):
    """What of the image is at the left top of the view (0..1, 0..1), and the zoom."""
    return figure.locator("img[alt=SR]").evaluate(PLACE)


def wait_for(page, expression):
    """Until it holds; playwright's own way of asking again is forbidden by the page's content security policy."""
    deadline = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def test_the_wheel_zooms_at_the_pointer_once_an_image_was_clicked(opened):
    page = opened()
    figure = page.locator("figure").first
    view = figure.locator(".view")
    view.scroll_into_view_if_needed()
    box = view.bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, 40)
    wait_for(page, f"scrollY !== {before}")
    assert _place(figure)[2] == pytest.approx(1), "the page scrolled"
    page.mouse.wheel(0, -40)
    wait_for(page, f"scrollY === {before}")
    page.mouse.down()
    page.mouse.up()
    for _ in range(3):
        page.mouse.wheel(0, -100)
    wait_for(page, "document.querySelector('.view').classList.contains('zoomed')")
    page.wait_for_timeout(100)
    x, y, zoom = _place(figure)
    assert zoom == pytest.approx(2.718281828**1.2, rel=1e-3)
    assert (x + 0.75 / zoom, y + 0.25 / zoom) == pytest.approx((0.75, 0.25), abs=5e-3), (
        "what is under the pointer stays"
    )
    for _ in range(4):
        page.mouse.wheel(0, 100)
    wait_for(page, "!document.querySelector('.view').classList.contains('zoomed')")
    assert _place(figure) == pytest.approx([0, 0, 1], abs=1e-3)


def test_two_fingers_zoom_and_the_place_between_them_stays(opened):
    page = opened(viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True)
    figure = page.locator("figure").first
    figure.locator(".view").scroll_into_view_if_needed()
    box = figure.locator(".view").bounding_box()
    client = page.context.new_cdp_session(page)

    def touch(kind, *across):
        points = [{"x": box["x"] + a * box["width"], "y": box["y"] + 0.5 * box["height"], "id": i}
                  for i, a in enumerate(across)]  # fmt: skip
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.4)
    touch("touchStart", 0.4, 0.6)
    for half in (0.15, 0.2, 0.25, 0.3):
        touch("touchMove", 0.5 - half, 0.5 + half)
    touch("touchEnd")
    x, y, zoom = _place(figure)
    assert zoom == pytest.approx(3, abs=0.3)
    assert (x + 0.5 / zoom, y + 0.5 / zoom) == pytest.approx((0.5, 0.5), abs=0.03)
    assert page.evaluate("visualViewport.scale") == 1, "the image zooms, not the page"
    touch("touchStart", 0.3)
    touch("touchMove", 0.2)
    touch("touchMove", 0.1)
    touch("touchEnd")
    assert _place(figure)[0] == pytest.approx(x + 0.2 / zoom, abs=0.03), "one finger moves what is shown"


def test_two_runs_share_a_slider_and_have_an_error_map_each(opened, report):
    path = write_page(report.parent.parent, report.parent.parent / "two", ["Set5"], beside=report.parent)
    figure = opened(path).locator("figure").first
    names = figure.get_by_label("left image").locator("option").all_inner_texts()
    assert names == ["bicubic", "SR", "out", "HR", "error", "error of out"]
    assert figure.locator(".tag.left").inner_text() == "out"
    assert figure.locator("img[alt=out]").is_visible() and not figure.locator("img[alt=bicubic]").is_visible()
    figure.get_by_label("left image").select_option("error of out")
    figure.get_by_label("right image").select_option("error")
    assert figure.locator("canvas").count() == 2


@pytest.mark.parametrize("scheme, dark", [("light", False), ("dark", True)])
def test_the_page_follows_the_colour_scheme(opened, scheme, dark):
    colours = opened(color_scheme=scheme).evaluate(
        "['backgroundColor', 'color'].map(key => getComputedStyle(document.body)[key].match(/\\d+/g).map(Number))"
    )
    paper, ink = (sum(colour[:3]) for colour in colours)
    assert (paper < ink) == dark
    assert abs(paper - ink) > 400, "readable"


def test_a_phone_shows_the_page_without_scrolling_sideways_and_slides_by_touch(opened):
    page = opened(viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert _words(page) == (True, False)
    figure = page.locator("figure").first
    figure.locator(".view").scroll_into_view_if_needed()
    box = figure.locator(".view").bounding_box()
    page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 30)
    assert _divider(figure) == pytest.approx(80, abs=1)


def test_set5_is_one_page_of_at_most_eight_megabytes(opened, shared, tmp_path):
    path = write_page(shared / "data", tmp_path / "out", ["Set5"], scale=4)
    assert path.stat().st_size < 8e6
    page = opened(path)
    wait_for(page, "[...document.images].every(image => image.complete && image.naturalWidth)")
    assert page.locator("figure .divider").count() == 5

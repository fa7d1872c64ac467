"""What stands in report.html, read without a browser."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest
from pages import write_page
from small_sets import photo, small_set, write_set

from ssiu.config import make_config
from ssiu.data.test_sets import load_test_sets
from ssiu.evaluation.evaluate import Bicubic, evaluate
from ssiu.report.page import choose, telling_box


def test_the_page_holds_the_summary_and_refers_to_nothing_outside(tmp_path):
    page = write_page(small_set(tmp_path, 2), tmp_path / "out", ["Set5"]).read_text()
    embedded = re.search(r'<script type="application/json" id="summary">(.*?)</script>', page)[1]
    assert json.loads(embedded) == json.loads((tmp_path / "out/summary.json").read_text())
    assert not re.findall(r'(?:src|href)="(?!data:|#|images/)[^"]*"', page)
    assert not re.findall(r"https?://", page)
    assert page.count("<figure ") == 3
    assert len(re.findall(r'src="data:image/webp;base64,', page)) == 9
    assert "python test.py &lt;&amp;&gt;" in page


def test_names_of_files_are_text_on_the_page(tmp_path):
    name = "<img src=x onerror=alert(1)>&\"'"
    write_set(tmp_path, "Set5", 2, {name: photo("coffee", 40, 40)})
    page = write_page(tmp_path, tmp_path / "out", ["Set5"]).read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#x27;" in page


class _Links(HTMLParser):
    """The links and the ids of a page, as a browser understands them."""

    def __init__(self, page: str):
        super().__init__()
        self.links: dict[str, str] = {}
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes["id"]} if "id" in attributes else set()
        if tag == "a":
            self.links[attributes["href"]] = urljoin("http://host/out/", attributes["href"])


def test_links_lead_to_images_whatever_they_are_called(tmp_path):
    odd = ["a#1", "50%", "what?", "50%23", "é &amp;", 'say "cheese"', "a b"]
    write_set(tmp_path, "no #1", 2, {name: photo("coffee", 40 + i, 40) for i, name in enumerate(odd)})
    page = _Links(write_page(tmp_path, tmp_path / "out", ["no #1"]).read_text())
    parts = [urlsplit(link) for link in page.links.values()]
    shown = [unquote(part.fragment) for part in parts if part.fragment]
    files = [unquote(part.path).removeprefix("/") for part in parts if not part.fragment]
    assert len(shown) == 6 and set(shown) <= page.ids
    assert len(files) == 1 and (tmp_path / files[0]).is_file()
    assert {name.partition("/")[2] for name in shown} < set(odd) and not any(part.query for part in parts)


def test_without_saved_images_there_are_numbers_alone(tmp_path):
    page = write_page(small_set(tmp_path, 2), tmp_path / "out", ["Set5"], save_image=False).read_text()
    assert "<figure " not in page
    assert "save_image: false" in page
    assert ">astronaut<" in page


@pytest.fixture
def ten(tmp_path):
    """Ten images whose PSNR falls from p0 to p9, already evaluated with bicubic."""
    noise = np.random.default_rng(0).normal(0, 1, (40, 48, 3))
    images = {
        f"p{i}": np.clip(photo("chelsea", 40, 48) + noise * (2 * i + 1), 0, 255).astype(np.uint8) for i in range(10)
    }
    write_set(tmp_path, "ten", 2, images)
    sets = load_test_sets(make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["ten"]}))
    return sets[0], evaluate(Bicubic(2), sets, save_to=tmp_path / "images"), tmp_path / "images"


def test_worst_middle_and_best_images_are_shown(ten):
    test_set, found, images = ten
    shown = choose(test_set, found, found, images)
    assert [choice.result.name for choice in shown] == ["p9", "p8", "p5", "p4", "p1", "p0"]
    assert all(choice.box == (0, 0, 48, 40) for choice in shown)


def test_large_images_are_cut_to_one_piece_of_all_three(ten):
    test_set, found, images = ten
    for choice in choose(test_set, found, found, images, pixels=6 * 400):
        left, top, width, height = choice.box
        assert (width, height) == (20, 20)
        index = int(choice.result.name[1:])
        np.testing.assert_array_equal(choice.images["HR"], test_set[index][2][top : top + height, left : left + width])
        assert {image.shape for image in choice.images.values()} == {(20, 20, 3)}


def test_the_piece_shown_is_where_the_images_differ_most():
    a = np.zeros((60, 90, 3), np.uint8)
    b = a.copy()
    b[31:35, 70:74] = 200
    left, top, width, height = telling_box(a, b, 400)
    assert left <= 70 and left + width >= 74
    assert top <= 31 and top + height >= 35
    assert width * height <= 400
    assert telling_box(a, b, 60 * 90) == (0, 0, 90, 60)
    assert telling_box(a[:5], b[:5], 100)[2:] == (20, 5)


def test_a_set_of_seven_links_the_image_without_a_viewer_to_its_file(tmp_path):
    write_set(tmp_path, "seven", 2, {f"a b{i}": photo("coffee", 40 + i, 40) for i in range(7)})
    page = write_page(tmp_path, tmp_path / "out", ["seven"]).read_text()
    assert page.count("<figure ") == 6
    links = re.findall(r'href="(images/[^"]+)"', page)
    assert len(links) == 1
    assert (tmp_path / "out" / links[0].replace("%20", " ")).is_file()

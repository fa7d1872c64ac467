"""What stands in report.html, read without a browser."""

import dataclasses
import html
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest
from pages import scored_network, write_page
from small_sets import photo, small_set, write_set

from ssiu.config.load import make_config
from ssiu.data.test_sets import load_test_sets
from ssiu.errors import BadInputError, MissingInputError
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import Score
from ssiu.evaluation.scores import Evaluation
from ssiu.images.io import save_image
from ssiu.inference.networks import Bicubic
from ssiu.report.results import other_results
from ssiu.report.results_page import choose, report_page, telling_box

TIMES = "\N{MULTIPLICATION SIGN}"


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
    assert html.unescape(page).count(f'"Set5/{name}"') == 2, "the id of the figure and its name"


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
    for choice in choose(test_set, found, found, images, pixels=400):
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


@pytest.mark.parametrize(
    "most, names",
    [(None, "p9 p8 p7 p6 p5 p4 p3 p2 p1 p0"), (10, "p9 p8 p7 p6 p5 p4 p3 p2 p1 p0"), (3, "p9 p5 p0"), (2, "p9 p0")]
    + [(1, "p9"), (0, ""), (7, "p9 p8 p7 p5 p4 p1 p0")],
)  # fmt: skip
def test_as_many_images_are_shown_as_asked_for(ten, most, names):
    test_set, found, images = ten
    assert [choice.result.name for choice in choose(test_set, found, found, images, most=most)] == names.split()


def test_with_all_shown_every_row_leads_to_a_viewer(tmp_path):
    write_set(tmp_path, "seven", 2, {f"p{i}": photo("coffee", 40 + i, 40) for i in range(7)})
    page = write_page(tmp_path, tmp_path / "out", ["seven"], shown=None).read_text()
    assert page.count("<figure ") == 7
    assert len(re.findall(r'href="#seven/p\d"', page)) == 7 and not re.findall(r'href="images/', page)


def test_a_second_run_stands_in_the_same_viewer_with_its_scores(tmp_path):
    small_set(tmp_path, 2)
    write_page(tmp_path, tmp_path / "first & best", ["Set5"])
    page = write_page(tmp_path, tmp_path / "out", ["Set5"], beside=tmp_path / "first & best").read_text()
    assert page.count('<img alt="first &amp; best"') == 3
    caption = re.search(r"<figcaption>.*?</figcaption>", page, re.DOTALL)[0]
    psnr, other = re.search(r"SR ([\d.]+ / [\d.]+); first &amp; best ([\d.]+ / [\d.]+) \(standard\)", caption).groups()
    assert psnr == other
    assert "<h2>this run beside first &amp; best: PSNR in dB, standard</h2>" in page and "too few images" in page
    assert (
        re.findall(r'<th scope="col">(first &amp; best.*?)</th>', page)[-1] == "first &amp; best&#39;s PSNR (standard)"
    )
    assert page.count('<td data-value="0.0">+0.00</td></tr>') == 3, "the gain on it, of every image"


def test_an_image_longer_than_webp_allows_is_cut(tmp_path):
    wide = np.tile(photo("coffee", 32, 160), (1, 125, 1))  # 20,000 pixels a row, fewer in all than are shown
    write_set(tmp_path, "mine", 2, {"tall": wide.transpose(1, 0, 2), "wide": wide})
    page = write_page(tmp_path, tmp_path / "out", ["mine"]).read_text()
    assert set(re.findall(r'data-width="(\d+)" data-height="(\d+)"', page)) == {("32", "16383"), ("16383", "32")}
    assert page.count(f" of 20000{TIMES}32") == page.count(f" of 32{TIMES}20000") == 1


def test_the_numbers_are_kept_where_the_page_cannot_be_made(tmp_path):
    small_set(tmp_path, 2)
    write_page(tmp_path, tmp_path / "first", ["Set5"])
    damaged = tmp_path / "first/images/Set5/coffee_x2.png"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    with pytest.raises(BadInputError, match=r"coffee_x2\.png"):
        write_page(tmp_path, tmp_path / "second", ["Set5"], beside=tmp_path / "first")
    for name in ("summary.json", "per_image.csv"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    assert not (tmp_path / "second/report.html").exists()


def test_a_second_runs_image_of_another_size_is_refused_before_any_work(tmp_path):
    small_set(tmp_path, 2)
    write_page(tmp_path, tmp_path / "first", ["Set5"])
    save_image(tmp_path / "first/images/Set5/coffee_x2.png", photo("coffee", 40, 42))
    with pytest.raises(BadInputError, match=r"coffee_x2\.png is 42x40, expected 70x44; test that run again"):
        write_page(tmp_path, tmp_path / "second", ["Set5"], beside=tmp_path / "first")
    assert not (tmp_path / "second").exists()


def test_equal_infinities_are_no_gain(tmp_path):
    """A flat image of the gray that `write_page`'s network leaves alone."""
    write_set(tmp_path, "mine", 2, {"flat": np.full((40, 40, 3), 102, np.uint8)})
    page = write_page(tmp_path, tmp_path / "out", ["mine"]).read_text()
    assert '<td data-value="Infinity">inf</td><td data-value="0.0">+0.00</td>' in page and "nan" not in page


def test_a_second_run_that_lacks_an_image_is_named_before_any_work(tmp_path):
    small_set(tmp_path, 2)
    write_page(tmp_path, tmp_path / "first", ["Set5"])
    sets = load_test_sets(make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["Set5"]}))
    assert other_results(tmp_path / "first", sets).scores.keys() == {"Set5/astronaut", "Set5/chelsea", "Set5/coffee"}
    (tmp_path / "first/images/Set5/coffee_x2.png").unlink()
    with pytest.raises(MissingInputError, match=r"no image of Set5/coffee at x2.*save_image=true"):
        other_results(tmp_path / "first", sets)
    with pytest.raises(MissingInputError, match=r"elsewhere/per_image\.csv: No such file"):
        other_results(tmp_path / "elsewhere", sets)


def test_an_official_ssim_above_one_is_explained(tmp_path):
    flat = np.full((40, 48, 3), 120, np.uint8)
    write_set(tmp_path, "plain", 2, {"flat": flat, "cup": photo("coffee", 40, 48)})
    config = make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["plain"]})
    sets = load_test_sets(config)
    found = evaluate(Bicubic(2), sets)
    scores = {"official": Score(30.0, 1.001), "standard": Score(30.0, 0.99)}
    above = Evaluation([dataclasses.replace(found.images[0], scores=scores), found.images[1]], found.protocols)
    scored = scored_network(config, sets, above, found)
    assert "of plain/cup is above 1 (up to 1.0010)" in report_page(scored, {}, [], None).decode()
    scores["official"] = Score(30.0, 1.0)
    assert "is above 1" not in report_page(scored, {}, [], None).decode()

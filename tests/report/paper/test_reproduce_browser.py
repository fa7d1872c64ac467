"""reproduce.html in a real browser: it says what the terminal says, fits a phone and asks nobody for anything."""

from pathlib import Path
from typing import Any

import pytest

from ssiu.evaluation.metrics import Score
from ssiu.report.paper.reproduce import CellResult, reproduction_table, write_reproduction
from ssiu.report.paper.rows import published_rows
from ssiu.report.paper.table1 import table1


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_shows_the_rows_and_fits(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    ours = {"standard": Score(38.29, 0.9612), "official": Score(38.3051, 0.96316)}
    cells = [CellResult(2, "Set5", 5, ours, Score(38.31, 0.9632)), CellResult(2, "Set14 mod12", 14, ours, None)]
    facts = {"command": "ssiu reproduce --data <&>", "weights x2": "/a/long/path/" * 8 + "model_x2_290.pt"}
    write_reproduction(tmp_path, reproduction_table(cells), cells, facts, table1(2, published_rows(2)))
    complaints: list[str] = []
    page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: complaints.extend([request.url] * request.url.startswith("http")))
    page.goto((tmp_path / "reproduce.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "ssiu reproduce --data <&>" in page.inner_text("body")
    assert page.locator("h2 + p").first.inner_text().startswith("1 of 1 cells agree with the paper")
    rows = page.locator("table").first.locator("tbody tr")
    assert [text.replace("\xa0", " ") for text in rows.nth(0).locator("td").all_inner_texts()] == [
        "x2 Set5", "5", "38.31 / 0.9632", "38.31 / 0.9632", "+0.00 / +0.0000", "yes", "38.29 / 0.9612"
    ]  # fmt: skip
    assert rows.nth(1).locator("td").all_inner_texts()[5] == "-"
    assert page.locator("table").count() == 3
    scroll = page.locator(".scroll").nth(1)  # Table I, whose first PSNR is in sight and whose names stay there
    assert scroll.locator("tbody tr").first.locator("td").nth(4).bounding_box()["x"] < width - 40
    scroll.evaluate("box => { box.scrollLeft = 1000; }")
    assert scroll.locator("tbody td").first.bounding_box()["x"] == scroll.bounding_box()["x"]
    page.context.close()
    assert complaints == []

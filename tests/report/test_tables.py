"""Tables: numbers in every output format."""

import math

import pytest
from printed import printed

from ssiu.evaluation.metrics import Score
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.report.pages import tables_page
from ssiu.report.tables import Number, Table, cell, score_table


def test_cells_show_infinite_and_unknown_numbers():
    assert printed(cell(Score(math.inf, 1.0), "standard")) == "inf / 1.0000"
    assert printed(cell(Score(30.0, math.nan), "standard")) == "30.00 / -"
    assert cell(None, "standard") == "-"


@pytest.fixture
def table():
    best, second = (Number(22, ".2f", 1), Number(0.9, ".1f", 3)), (Number(1, ".1f", 2), Number(math.nan, ".4f"))
    return Table("A & B", ["set", "x_1 (standard)"], [["Set5", second], ["100% of it", best]], ("a note",))


def test_text_is_aligned(table):
    assert table.text().splitlines() == [
        "A & B",
        "set         x_1 (standard)",
        "----------  --------------",
        "Set5              1.0² / -",
        "100% of it   22.00¹ / 0.9³",
        "a note",
        "best¹, second², third³ of a column",
    ]


def test_markdown_marks_the_best_three(table):
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert lines[1:] == ["| --- | ---: |", "| Set5 | <u>1.0</u> / - |", "| 100% of it | **22.00** / *0.9* |"]


def test_latex_escapes_what_latex_would_read(table):
    latex = table.latex()
    assert r"set & x\_1 (standard) \\" in latex
    assert r"100\% of it & \textbf{22.00} / \textit{0.9} \\" in latex
    assert latex.count(r"\begin{tabular}{lr}") == latex.count(r"\end{tabular}") == 1


def test_no_name_breaks_a_row():
    names = ["a|b", "two\nlines", "caf\udce9", "\\{~^}$"]
    table = Table("t", ["method", "x|y"], [[name, "1"] for name in names], ("a\nnote",))
    assert len(table.text().splitlines()) == 1 + 2 + 4 + 2
    assert r"two\nlines" in table.text() and r"caf\udce9" in tables_page("t", [table]).decode()
    assert [line for line in table.markdown().splitlines() if "|" in line][:4] == [
        r"| method | x\|y |", "| --- | ---: |", r"| a\|b | 1 |", r"| two\nlines | 1 |"
    ]  # fmt: skip
    latex = table.latex()
    assert r"\textbackslash{}\{\textasciitilde{}\textasciicircum{}\}\$ & 1 \\" in latex
    assert r"% a\nnote" in latex.splitlines()


def test_html_escapes_what_html_would_read():
    rows = [["b & c"], [(Number(1, ".1f", 1), Number(2, ".1f", 2))]]
    page = tables_page("<t>", [Table("t", ["<a>"], rows, ("<note>",))], {"<key>": "<value>"}).decode()
    assert all(f"<{word}>" not in page for word in ("t", "key", "value", "note"))
    assert '<th scope="col">&lt;a&gt;</th>' in page
    assert "<td>b &amp; c</td>" in page
    assert "<td><b>1.0</b>&nbsp;/ <u>2.0</u></td>" in page


def test_score_table_shows_both_protocols():
    scores = {protocol: Score(30.0, 0.89998) for protocol in ("standard", "official")}
    table = score_table("mine", Evaluation([ImageResult("Set5", "a", 30, 30, scores)], tuple(scores)))
    assert table.header == ["PSNR dB / SSIM", "images", "standard", "official"]
    assert table.text().splitlines()[-1].split() == ["Set5", "1", "30.00", "/", "0.9000", "30.00", "/", "0.9000"]


def test_records_hold_numbers_with_all_their_digits_and_none_for_what_is_not_known():
    scores = (Number(30.004, ".2f"), Number(math.nan, ".4f"))
    rows = [["a", Number(1234.5678, ",.0f"), scores], ["b", "-", "32.10"]]
    assert Table("t", ["name", "n", "score"], rows).records() == [
        {"name": "a", "n": 1234.5678, "score": [30.004, None]},
        {"name": "b", "n": None, "score": "32.10"},  # text stays text, whatever it looks like
    ]

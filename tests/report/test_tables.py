"""Tables: the paper's rows under their protocol, and every output format."""

import math

import pytest
from printed import printed

from ssiu.evaluation.metrics import Score
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.report.pages import tables_page
from ssiu.report.paper.published import paper_facts, paper_rows, published
from ssiu.report.tables import Number, Table, cell, comparison, score_table


def _evaluation(protocols, psnr, sets=("Set5",)):
    scores = {protocol: Score(psnr, 0.89998) for protocol in protocols}
    return Evaluation([ImageResult(name, "a", 30, 30, scores) for name in sets], tuple(protocols))


def test_table_1_is_complete_and_only_the_papers_own_row_is_official():
    rows = paper_rows()
    assert [sum(row.scale == scale for row in rows) for scale in (2, 3, 4)] == [15, 14, 15]
    assert {row.method for row in rows if row.protocol == "official"} == {"SSIU"}
    imdn = next(row for row in paper_rows(4) if row.method == "IMDN")
    assert (imdn.protocol, imdn.params_k, imdn.flops_g, imdn.training_set) == ("standard", 715, 41, "DIV2K")
    assert imdn.scores["Set5"] == Score(32.21, 0.8948)
    assert list(imdn.scores) == ["Set5", "Set14", "B100", "Urban100", "Manga109"]
    assert "Manga109" not in next(row for row in rows if row.method == "ECBSR-M").scores


def test_tables_2_to_4_agree_with_table_1():
    facts = paper_facts()
    full = next(row for row in paper_rows(4) if row.method == "SSIU")
    assert tuple(facts["table3"]["esam_moe"]["set5"]) == full.scores["Set5"]
    assert facts["table4"]["l1_fft"] == facts["table3"]["esam_moe"]
    assert facts["table2"]["SSIU"]["psnr"] == full.scores["B100"].psnr


def test_published_rows_of_our_models():
    assert published("SSIU", 3)[1]["B100"] == Score(29.35, 0.8138)
    protocol, scores = published("IDSANet", 4)
    assert protocol == "not stated"
    assert printed(cell(scores["Set5"], "standard")) == "32.47 / -"
    assert published("IDSANet", 2)[1] == {}


def test_comparison_names_the_protocol_in_every_column():
    ours = _evaluation(("standard", "official"), 32.201, sets=("Set5", "holiday"))
    table = comparison("run", "SSIU", 4, ours, _evaluation(("standard",), 28.0, sets=("Set5", "holiday")))
    assert table.header[2:] == [
        "bicubic (standard)", "SSIU (standard)", "SSIU (official)", "paper's SSIU (official)"
    ]  # fmt: skip
    lines = [line.split("  ") for line in table.markdown().replace(" | ", "  ").splitlines()]
    assert lines[-2] == ["| Set5", "1", "28.00 / 0.9000", "32.20 / 0.9000", "32.21 / 0.9000", "32.64 / 0.9032 |"]
    assert lines[-1] == ["| holiday", "1", "28.00 / 0.9000", "32.20 / 0.9000", "32.21 / 0.9000", "- |"]


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
    assert "<td><b>1.0</b> / <u>2.0</u></td>" in page


def test_score_table_shows_both_protocols():
    table = score_table("mine", _evaluation(("standard", "official"), 30.0))
    assert table.header == ["PSNR dB / SSIM", "images", "standard", "official"]
    assert table.text().splitlines()[-1].split() == ["Set5", "1", "30.00", "/", "0.9000", "30.00", "/", "0.9000"]


def test_records_hold_numbers_with_all_their_digits_and_none_for_what_is_not_known():
    scores = (Number(30.004, ".2f"), Number(math.nan, ".4f"))
    rows = [["a", Number(1234.5678, ",.0f"), scores], ["b", "-", "32.10"]]
    assert Table("t", ["name", "n", "score"], rows).records() == [
        {"name": "a", "n": 1234.5678, "score": [30.004, None]},
        {"name": "b", "n": None, "score": "32.10"},  # text stays text, whatever it looks like
    ]

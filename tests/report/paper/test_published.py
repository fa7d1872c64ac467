"""What the papers print: complete, consistent, and each row under its protocol."""

import re
from pathlib import Path

from printed import printed

from ssiu.evaluation.metrics import Score
from ssiu.report.paper.published import measured_here, paper_facts, paper_rows, published
from ssiu.report.tables import cell


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


def test_the_page_on_other_methods_prints_what_was_measured():
    page = (Path(__file__).parents[3] / "docs/peers.md").read_text()
    cells = re.findall(
        r"^\| ([\w+-]+) \| ([234]) \| .*? \| .*? \| ([\d. /]+) \| .*? \| .*? \| ([\d. /]+) \|", page, re.M
    )
    assert sorted(cells) == sorted(
        (row.method, str(scale), *(printed(cell(row.scores[name], "standard")) for name in ("Set5", "Set14")))
        for scale in (2, 3, 4)
        for row in measured_here(scale)
    )


def test_published_rows_of_our_models():
    assert published("SSIU", 3)[1]["B100"] == Score(29.35, 0.8138)
    protocol, scores = published("IDSANet", 4)
    assert protocol == "not stated"
    assert printed(cell(scores["Set5"], "standard")) == "32.47 / -"
    assert published("IDSANet", 2)[1] == {}

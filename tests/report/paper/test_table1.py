"""Table I with our rows in it."""

import csv
import io
import json
import math
import os

import pytest
from printed import printed, printed_rows
from small_sets import photo, small_set, write_set

from ssiu.cli import table as table_command
from ssiu.errors import BadInputError, MissingInputError
from ssiu.evaluation.metrics import Score
from ssiu.report.pages import tables_page
from ssiu.report.paper.rows import Row, bicubic_row, in_order, published_rows, result_rows, rows_csv
from ssiu.report.paper.table1 import recomputed_table, table1


def _column(tables, title, protocol="standard"):
    table = next(table for table in tables if table.title.endswith(protocol))
    index = table.header.index(title)
    return {row[0]: row[index] for row in table.rows}


def _printed_column(*arguments):
    return {method: printed(content) for method, content in _column(*arguments).items()}


def _summary(path, model="IMDN", scale=4, checkpoint=None, run=None, **sets):
    protocols = {
        p: {name: {"psnr": psnr, "ssim": ssim, "images": 5} for name, (psnr, ssim) in sets.items()}
        for p in ("standard", "official")
    }
    document = {"model": model, "scale": scale, "checkpoint": checkpoint, "weights_sha256": None}
    path.write_text(json.dumps(document | (run or {}) | {"protocols": protocols}))
    return path


def test_the_papers_ssiu_stands_in_the_official_table_only():
    tables = table1(4, published_rows(4))
    assert [table.title for table in tables] == [f"Table I, x4, {name}" for name in ("standard", "official", "float")]
    assert "SSIU" not in _column(tables, "Set5") and len(_column(tables, "Set5")) == 22
    assert list(_column(tables, "Set5", "float")) == ["CATANet"]
    assert "HiT-SRF-DF2K (github.com/XiangZ-0/HiT-SR)" in " ".join(tables[0].notes), "where a later row is from"
    for name in ("Set5", "Set14", "B100", "Urban100", "Manga109"):
        assert list(_column(tables, name, "official")) == ["SSIU"]
    assert _printed_column(tables, "Set5", "official")["SSIU"] == "32.64 / 0.9032"
    (alone,) = table1(4, [row for row in published_rows(4) if row.method == "SSIU"])
    assert alone.title.endswith("official"), "no table without a row"


def test_the_best_three_printed_numbers_of_a_column_are_marked_and_equal_ones_share_a_place():
    rows = [
        Row(name, 2, "x", {"standard": {"Set5": Score(psnr, ssim)}})
        for name, psnr, ssim in [("a", 30.001, 0.1), ("b", 30.004, 0.2), ("c", 31, 0.3), ("d", 29, 0.4), ("e", 28, 0.5)]
    ]
    column = _column(table1(2, rows), "Set5")
    assert {name: tuple(number.place for number in cell) for name, cell in column.items()} == {
        "a": (2, 0), "b": (2, 0), "c": (1, 3), "d": (3, 2), "e": (0, 1)
    }  # fmt: skip
    (table,) = table1(2, rows)
    legends = {table.text: "best¹, second², third³ of", table.markdown: "**best**, <u>second</u>, *third* of"}
    legends |= {table.latex: r"% \textbf{best}, \underline{second}, \textit{third} of"}
    legends[lambda: tables_page("t", [table]).decode()] = "<b>best</b>, <u>second</u>, <i>third</i> of"
    assert all(legend in render() for render, legend in legends.items())


def test_a_column_of_fewer_than_four_methods_has_no_marks_and_no_legend():
    """Bicubic is no method: three rows beside it are three."""
    means = {"standard": {"Set5": Score(30.0, 0.9)}}
    for methods, marked in ((["bicubic", "a", "b", "c"], False), (["bicubic", "a", "b", "c", "d"], True)):
        (table,) = table1(4, [Row(name, 4, "", means) for name in methods])
        assert table.marked == ("best¹" in table.text()) == ("<b>best" in tables_page("t", [table]).decode()) == marked


def test_computed_means_are_rounded_by_their_protocol_and_printed_ones_not_again():
    means = {"standard": {"Set5": Score(32.201, 0.9)}, "official": {"Set5": Score(32.201, 0.9)}}
    tables = table1(4, [Row("ours", 4, "x", means), *published_rows(4)])
    assert _printed_column(tables, "Set5")["ours"] == "32.20 / 0.9000"
    official = _printed_column(tables, "Set5", "official")
    assert (official["ours"], official["SSIU"]) == ("32.21 / 0.9001", "32.64 / 0.9032")


def test_bicubic_is_computed_on_the_sets_that_are_there_and_the_others_are_named(tmp_path):
    row, absent = bicubic_row(small_set(tmp_path, 3), 3)
    assert list(row.means["standard"]) == ["Set5"]
    assert absent == ["Set14", "B100", "Urban100", "Manga109"]
    table = table1(3, [row], absent)[0]
    assert "Set14, B100, Urban100, Manga109" in table.notes[-1]
    small_set(tmp_path, 3, "mine")
    assert list(bicubic_row(tmp_path, 3, ["Set5", "mine"])[0].means["standard"]) == ["Set5", "mine"]
    assert bicubic_row(tmp_path / "empty", 2) == (Row("bicubic", 2, "computed", {}), ["Set5", *absent])


def _unnamed(*paths):
    return [(None, path) for path in paths]


def test_a_mod12_copy_has_columns_of_its_own(tmp_path):
    images = {"astronaut": photo("astronaut", 48, 60)}
    for copy in ("Set5", "Set14"):
        write_set(tmp_path, copy, 2, images)
    root = tmp_path / "benchmark/Set5"
    (root / "HR").rename(root / "GTmod12")
    (root / "LR_bicubic/X2").rename(root / "LRbicx2")
    row, absent = bicubic_row(tmp_path, 2, ["Set5 mod12", "Set14 mod12", "B100 mod12"])
    assert list(row.means["standard"]) == ["Set5 mod12", "Set14 mod12"]
    assert absent == ["B100", "Urban100", "Manga109", "B100 mod12"], "what is shown is on disk"
    tables = table1(2, [row, *published_rows(2)])
    usual, mod12 = (_column(tables, name, "official") for name in ("Set5", "Set5 mod12"))
    assert mod12["bicubic"] != "-" and usual["bicubic"] == mod12["SSIU"] == "-"


def test_files_of_one_method_make_one_row(tmp_path):
    a = _summary(tmp_path / "a.json", "ours", Set5=(32.0, 0.9))
    b = _summary(tmp_path / "b.json", "ours", Set14=(None, 1.0), mine=(20.0, 0.5))
    c = _summary(tmp_path / "c.json", "other", checkpoint="/home/me/w.safetensors", Set5=(32.5, 0.91))
    rows = result_rows(_unnamed(a, b, c))
    assert [(row.method, row.source) for row in rows] == [("ours", "a"), ("other", "c")]
    assert rows[0].means["official"] == {
        "Set5": Score(32.0, 0.9), "Set14": Score(math.inf, 1.0), "mine": Score(20.0, 0.5)
    }  # fmt: skip
    tables = table1(4, rows)
    assert _printed_column(tables, "Set14")["ours"] == "inf / 1.0000"
    assert _column(tables, "mine")["other"] == "-"


def test_several_runs_of_one_model_and_scale_are_told_apart(tmp_path):
    paths = []
    for name, checkpoint in (("first", "logs/a.pt"), ("second", "logs/b.pt"), ("second_again", "logs/b.pt")):
        (tmp_path / name).mkdir()
        paths.append(_summary(tmp_path / name / "summary.json", "net", checkpoint=checkpoint, Set5=(32.0, 0.9)))
    assert [row.method for row in result_rows(_unnamed(*paths))] == [
        "net (first)",
        "net (second)",
        "net (second_again)",
    ]
    named = [("A", paths[0]), (None, paths[1]), ("B", paths[2])]
    assert [row.method for row in result_rows(named)] == ["A", "net", "B"]
    with pytest.raises(BadInputError, match="Set5 of A x4 is given twice"):
        result_rows([("A", paths[1]), ("A", paths[2])])
    ours = result_rows(_unnamed(_summary(tmp_path / "first/summary.json", "SSIU", Set5=(31.0, 0.9))))
    assert ours[0].method == "SSIU (first)", "beside the paper's SSIU"


FP32 = {"weights_sha256": "ab", "precision": "fp32", "self_ensemble": False}


@pytest.mark.parametrize(
    ("other", "names"),
    [
        ({"weights_sha256": "cd"}, ("net (first)", "net (second)")),
        ({"precision": "bf16"}, ("net", "net (bf16)")),
        ({"self_ensemble": True}, ("net", "net+")),
    ],
)
def test_networks_and_settings_are_never_mixed_in_a_row(tmp_path, other, names):
    """One path may have held two networks: best.pt, before and after more training."""
    best = {"model": "net", "checkpoint": "logs/a/models/best.pt"}
    first = _summary(tmp_path / "first.json", **best, run=FP32, Set5=(32.0, 0.9))
    second = _summary(tmp_path / "second.json", **best, run=FP32 | other, Set14=(28.0, 0.8))
    rows = result_rows(_unnamed(first, second))
    assert [(row.method, list(row.means["standard"])) for row in rows] == [
        (names[0], ["Set5"]), (names[1], ["Set14"])
    ]  # fmt: skip
    with pytest.raises(BadInputError, match=r"second\.json is of another network, or other settings .* called M x4"):
        result_rows([("M", first), ("M", second)])
    copied = _summary(tmp_path / "copied.json", "net", checkpoint="copy.pt", run=FP32, Set14=(28.0, 0.8))
    (row,) = result_rows(_unnamed(first, copied))
    assert list(row.means["standard"]) == ["Set5", "Set14"], "one network, from two places"


def test_scored_folders_of_one_name_make_one_row_whatever_they_are_called(tmp_path):
    files = [_summary(tmp_path / f"{name}.json", f"IMDN_{name}", **{name: (32.0, 0.9)}) for name in ("Set5", "Set14")]
    (row,) = result_rows([("IMDN", path) for path in files])
    assert (row.method, list(row.means["standard"])) == ("IMDN", ["Set5", "Set14"])


def test_parameters_and_multiply_accumulates_of_own_runs_stand_in_the_table(tmp_path):
    path = _summary(tmp_path / "a.json", "ours", Set5=(32.0, 0.9))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parameters": 794_467, "macs_1280x720": 48.9e9}))
    tables = table1(4, result_rows(_unnamed(path)))
    assert [_printed_column(tables, title)["ours"] for title in ("params K", "MACs G")] == ["794", "49"]


def test_no_table_holds_a_path(tmp_path):
    (tmp_path / "run").mkdir()
    path = _summary(tmp_path / "run/summary.json", "ours", checkpoint=str(tmp_path / "w.pt"), Set5=(32.0, 0.9))
    rows = [*published_rows(4), *result_rows(_unnamed(path))]
    tables = table1(4, rows)[:2]  # CATANet is alone under float
    texts = [text for table in tables for text in (table.text(), table.markdown(), table.latex())]
    for text in (*texts, tables_page("t", tables).decode(), rows_csv(rows)):
        assert "ours" in text and str(tmp_path) not in text


def test_bicubic_takes_no_place(tmp_path):
    methods = {"bicubic": 33.0, "a": 31.0, "b": 32.0, "c": 30.0, "d": 29.0}
    rows = [Row(name, 4, "", {"standard": {"Set5": Score(psnr, 0.9)}}) for name, psnr in methods.items()]
    column = _column(table1(4, rows), "Set5")
    assert {name: column[name][0].place for name in methods} == {"bicubic": 0, "a": 2, "b": 1, "c": 3, "d": 0}


def test_a_terminal_gets_columns_in_blocks_that_fit_it():
    mine = Row("mine", 4, "", {"standard": {"my own photographs of the town": Score(30.0, 0.9)}})
    wide = table1(4, [*published_rows(4), mine])[0]
    lines = wide.text(85).splitlines()
    assert max(map(len, lines)) <= 85
    assert sum(line.startswith("PSNR dB / SSIM") for line in lines) >= 2
    assert {*wide.text(85).split()} >= {*wide.text().split()} - {"-" * n for n in range(1, 99)}
    last_block = wide.text(85).split("\n\n")[-1]
    assert "mine" in last_block and "CARN" not in last_block, "rows without a number there are left out"


def test_csv_has_a_line_for_every_number(tmp_path):
    rows = result_rows(_unnamed(_summary(tmp_path / "a.json", "ours", Set5=(32.123456789, 0.9))))
    lines = list(csv.DictReader(io.StringIO(rows_csv([*rows, *published_rows(4)]))))
    assert lines[0] == {
        "scale": "4", "method": "ours", "from": "a", "protocol": "standard", "set": "Set5",
        "psnr": "32.123456789", "ssim": "0.9",
    }  # fmt: skip
    assert len(lines) == 2 + (14 * 5 + 4) + (9 * 5 - 1), "ours, the paper's, those since"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"protocols": {"standard": 3}}', '{"model": 1, "protocols": {}}']
    + ["[" * 100_000, '{"model": "a", "scale": Infinity, "protocols": {}, "checkpoint": null}'],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_other_files_are_refused_by_name(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInputError, match=r"x\.json is not a summary\.json"):
        result_rows(_unnamed(tmp_path / "x.json"))
    with pytest.raises(MissingInputError, match=r"y\.json: No such file"):
        result_rows(_unnamed(tmp_path / "y.json"))


def test_the_script_writes_every_format(tmp_path, capsys):
    small_set(tmp_path / "data", 4)
    run = _summary(tmp_path / "run.json", "mine & <yours>", Set5=(30.0, 0.9))
    arguments = [run, "--scale", 4, "--data", tmp_path / "data", "--output", tmp_path / "out"]
    table_command.main(list(map(str, arguments)))
    assert "Table I, x4" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["table1_x4.csv", "table1_x4.html", "table1_x4.md", "table1_x4.tex"]
    assert "mine &amp; &lt;yours&gt;" in (tmp_path / "out/table1_x4.html").read_text()
    assert r"mine \& " in (tmp_path / "out/table1_x4.tex").read_text()


def test_a_name_that_is_not_utf8_is_escaped_in_every_format(tmp_path):
    run = _summary(tmp_path / "run.json", Set5=(30.0, 0.9))
    name = os.fsdecode(b"caf\xe9")
    table_command.main([f"{name}={run}", "--scale", "4", "--data", str(tmp_path), "--output", str(tmp_path)])
    for suffix, escaped in (("md", r"caf\udce9"), ("csv", r"caf\udce9"), ("html", r"caf\udce9"), ("tex", "caf")):
        assert escaped in (tmp_path / f"table1_x4.{suffix}").read_text(encoding="utf-8")


def test_names_of_sets_are_text_on_the_page(tmp_path):
    name = "<img src=x onerror=alert(1)>"  # not on disk, so a note names it too
    run = _summary(tmp_path / "run.json", **{name: (30.0, 0.9)})
    table_command.main([str(run), "--scale", "4", "--data", str(tmp_path), "--output", str(tmp_path)])
    page = (tmp_path / "table1_x4.html").read_text()
    assert "<img" not in page and "so not computed: " in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 3


def _measured(path, model, parameters, scale=4, **sets):
    document = json.loads(_summary(path, model, scale, **sets).read_text())
    path.write_text(json.dumps(document | {"parameters": parameters, "macs_1280x720": 40e9}))
    return path


def test_a_recomputed_method_stands_below_its_row_of_the_paper(tmp_path):
    paths = [
        _measured(tmp_path / "OmniSR_x4.json", "OmniSR", 792_000, Set5=(32.4933, 0.89881)),
        _measured(tmp_path / "mine.json", "mine", 1000, Set5=(30.0, 0.85)),
        _measured(tmp_path / "ATD_x4.json", "ATD", 20_100_000, Set5=(33.1, 0.9058)),  # the large one
        _measured(tmp_path / "ATD_light_x4.json", "ATD", 769_000, Set5=(32.62, 0.8997), Set14=(28.88, 0.7885)),
    ]
    runs = result_rows(_unnamed(*paths))
    assert [(row.method, row.recomputes) for row in runs] == [
        ("OmniSR (OmniSR_x4)", "Omni-SR"), ("mine", ""), ("ATD", ""), ("ATD (ATD_light_x4)", "ATD-light"),
    ]  # fmt: skip
    rows = in_order([*published_rows(4), *runs])
    methods = [row.method for row in rows]
    assert methods[methods.index("Omni-SR") + 1] == "OmniSR (OmniSR_x4)"
    assert methods[methods.index("ATD-light") + 1] == "ATD (ATD_light_x4)"
    assert methods[-2:] == ["mine", "ATD"]
    assert sum(len(table.rows) for table in table1(4, rows)) == len(rows) + len(runs), "ours in both tables"


def test_the_differences_to_the_paper_are_marked(tmp_path):
    path = _measured(tmp_path / "ATD_x4.json", "ATD", 769_000, Set5=(32.634, 0.8997), Set14=(28.88, 0.7886))
    table = recomputed_table(4, in_order([*published_rows(4), *result_rows(_unnamed(path))]))
    assert table.header == ["recomputed", "from", "params K", "MACs G", "Set5", "Set14"]
    assert printed_rows(table) == [
        ["ATD-light", "paper, standard", "769", "39", "32.63 / 0.8998", "28.89 / 0.7886"],
        ["ATD (ATD_x4)", "here, standard", "769", "40", "32.63 / 0.8997", "28.88 / 0.7886"],
        ["", "difference", "=", "+1", "= / -0.0001", "-0.01 / ="],
    ]


def test_a_set_the_paper_leaves_out_and_a_mod12_copy_have_their_place(tmp_path):
    sets = {"Manga109": (30.0, 0.9), "Set5 mod12": (31.9, 0.8946), "mine": (20.0, 0.5)}
    path = _measured(tmp_path / "run.json", "net", 603_000, **sets)
    table = recomputed_table(4, in_order([*published_rows(4), *result_rows([("ECBSR-M", path)])]))
    assert table.header[4:] == ["Manga109", "Set5 mod12"]
    rows = printed_rows(table)
    assert (rows[0][4:], rows[2][4:]) == (["-", "31.92 / 0.8946"], ["-", "-0.02 / ="])


def test_our_own_row_is_compared_under_the_authors_protocol(tmp_path):
    path = _measured(tmp_path / "run.json", "SSIU", 794_467, Set5=(32.6349, 0.90305))
    table = recomputed_table(4, in_order([*published_rows(4), *result_rows(_unnamed(path))]))
    assert [row[1] for row in table.rows] == ["paper, official", "here, official", "difference"]
    assert printed(table.rows[2][-1]) == "= / -0.0001"


def test_the_command_prints_and_writes_both_tables(tmp_path, capsys):
    run = _measured(tmp_path / "run.json", "SAFMN", 239_520, Set5=(32.18, 0.8948))
    table_command.main([str(run), "--scale", "4", "--data", str(tmp_path), "--output", str(tmp_path / "out")])
    found = capsys.readouterr().out
    assert "Table I recomputed, x4" in found and "SAFMN (run)" in found
    for suffix in ("md", "tex", "html"):
        assert "Table I recomputed" in (tmp_path / f"out/table1_x4.{suffix}").read_text()
    table_command.main(["--scale", "4", "--data", str(tmp_path)])
    found = capsys.readouterr().out
    assert "IMDN (measured here)" in found and "SAFMN (run)" not in found


@pytest.mark.parametrize("run", [{"self_ensemble": True}, {"precision": "bf16"}, {"precision": "tf32"}])
def test_a_run_with_other_settings_says_so_and_is_not_compared_with_the_papers_plain_row(tmp_path, run):
    """Papers write SSIU+ for a self-ensemble; it is another method than SSIU."""
    path = _measured(tmp_path / "run.json", "SSIU", 794_467, Set5=(32.7, 0.904))
    path.write_text(json.dumps(json.loads(path.read_text()) | FP32 | run))
    name = "SSIU+" if "self_ensemble" in run else f"SSIU ({run['precision']})"
    for given, shown in ((None, name), ("mine", name.replace("SSIU", "mine"))):
        (row,) = result_rows([(given, path)])
        assert (row.method, row.recomputes) == (shown, "")
        assert recomputed_table(4, [*published_rows(4), row]) is None
    notes = "".join(table1(4, [row])[0].notes)
    assert ("mine+: self-ensemble" in notes) == ("self_ensemble" in run)
    assert result_rows([("mine+", path)])[0].method.count("+") == 1


def test_only_scales_of_the_runs_are_printed_and_all_without_any(tmp_path, capsys):
    run = _summary(tmp_path / "run.json", scale=3, Set5=(30.0, 0.9))
    for arguments, scales in (([str(run)], "3"), ([str(run), "--scale", "2"], "2"), ([], "234")):
        table_command.main([*arguments, "--data", str(tmp_path)])
        printed_out = capsys.readouterr().out
        assert "".join(scale for scale in "234" if f"Table I, x{scale}" in printed_out) == scales


def test_a_data_path_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    with pytest.raises(MissingInputError, match="--data /nonexistent: no such folder; expected your data_path"):
        table_command.main(["--data", "/nonexistent", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    monkeypatch.chdir(tmp_path)  # where there is no data, which nobody asked for
    table_command.main(["--scale", "4"])
    assert "Not on disk, so not computed: Set5" in capsys.readouterr().out

"""The paper's rows again: from an empty folder to the page, restarted, and what agrees."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import in_child
from file_server import impatient, serving
from printed import printed_rows
from small_sets import photo
from small_sets import write_set as write_photos
from tiny import tiny
from toy_sets import write_set
from toy_sources import add_weights, catalog_of, tar_of, write_catalog

from ssiu.cli import reproduce as command
from ssiu.cli import table as table_command
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, OutputError
from ssiu.evaluation import evaluate as evaluate_module
from ssiu.evaluation.metrics import Score
from ssiu.report.paper.published import paper_rows
from ssiu.report.paper.reproduce import CellResult, reproduction_table, verdict, write_reproduction
from ssiu.weights import shipped
from ssiu.weights.formats import save_authors_weights, save_weights


def cell(
    psnr: float, ssim: float, paper: tuple[float, float] | None = (38.31, 0.9632), name: str = "Set5"
) -> CellResult:
    ours = {"standard": Score(psnr - 0.01, ssim - 0.002), "official": Score(psnr, ssim)}
    return CellResult(2, name, 5, ours, paper and Score(*paper))


@pytest.mark.parametrize(
    ("psnr", "ssim", "word", "difference"),
    [
        (38.3051, 0.96316, "yes", "+0.00 / +0.0000"),  # the official mean is rounded up
        (38.3099, 0.96321, "PSNR", "+0.00 / +0.0001"),
        (38.2951, 0.96316, "SSIM", "-0.01 / +0.0000"),
        (37.5683, 0.96077, "no", "-0.74 / -0.0024"),
    ],
)
def test_a_cell_agrees_where_the_printed_numbers_are_equal(
    psnr: float, ssim: float, word: str, difference: str
) -> None:
    (row,) = printed_rows(reproduction_table([cell(psnr, ssim)]))
    assert row[5] == word and row[4] == difference


def test_the_verdict_counts_cells_that_the_paper_has() -> None:
    cells = [cell(38.3051, 0.96316), cell(38.3051, 0.9), cell(37, 0.9), cell(37, 0.9, None, "mine")]
    assert verdict(cells) == "1 of 3 cells agree with the paper to the printed digit (PSNR 2, SSIM 1)."
    assert printed_rows(reproduction_table(cells))[3][2:6] == ["-", "37.01 / 0.9001", "-", "-"]
    assert verdict([]).startswith("0 of 0")


def test_other_weights_than_the_authors_are_not_held_to_agree() -> None:
    cells = [cell(37.5683, 0.96077), cell(38.0, 0.9630), cell(37, 0.9, None)]
    (first, *_) = reproduction_table(cells, authors=False).notes
    assert first.startswith("These weights are this repository's, not the authors'") and "agree" not in first
    assert "PSNR differs by -0.74 to -0.30 dB, SSIM by -0.0024 to -0.0002." in first
    assert reproduction_table([], authors=False).notes[0].endswith("need not come out.")


def test_a_mod12_copy_is_named_and_an_absent_set_too() -> None:
    table = reproduction_table([cell(38, 0.9, name="Set5 mod12")], ["Manga109"])
    assert table.rows[0][0] == "x2 Set5 mod12" and "mod12" in table.notes[2] and "Manga109" in table.notes[3]
    assert not any("mod12" in note for note in reproduction_table([cell(38, 0.9)]).notes)


Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`ssiu reproduce` in an empty folder; a server has small networks for the authors' weights."""
    impatient(monkeypatch)
    made, here = tmp_path / "made", tmp_path / "here"
    for folder in (made, here, here / "pretrain_model"):
        folder.mkdir()
    with serving() as server:
        catalog = catalog_of(server, "/benchmark", sets=("Set5",), images=5)
        catalog["archives"]["all"]["sources"][0]["about"] = 10_000_000
        for scale in (3, 4):
            save_authors_weights(made / f"{scale}.pt", tiny(scale))
            add_weights(catalog, server, scale, made / f"{scale}.pt")
        sources = write_catalog(made / "sources.yaml", catalog)
        monkeypatch.setattr(shipped, "SHIPPED", (here / "pretrain_model",))
        monkeypatch.chdir(here)
        run = lambda *arguments: command.main(["--sources", str(sources), *arguments])  # noqa: E731
        run.server = server
        yield run


ASKED = ("--scale", "4", "3", "--sets", "Set5")


@pytest.fixture
def archive(run: Run, shared: Path) -> None:
    """The server has Set5 itself: what is downloaded must be the usual copy."""
    run.server.files["/benchmark"] = tar_of(shared / "data/benchmark/Set5", "r/benchmark/Set5")


@pytest.fixture
def small_set5(run: Run, tmp_path: Path) -> None:
    """Five small images in its place, which need no download."""
    for scale in (3, 4):
        photos = {f"{index}": photo("coffee", 45 + index, 50) for index in range(5)}
        write_photos(tmp_path / "here/data", "Set5", scale, photos)


@pytest.mark.usefixtures("archive")
def test_from_an_empty_folder_to_the_page(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(*ASKED)
    printed = capsys.readouterr().out
    folder = tmp_path / "here/results/reproduce_authors"
    assert {path.name for path in folder.iterdir()} == {"reproduce.md", "reproduce.json", "reproduce.html", "cells"}
    assert "0 of 2 cells agree with the paper to the printed digit" in printed
    document = json.loads((folder / "reproduce.json").read_text())
    assert [(each["scale"], each["set"], each["images"]) for each in document["cells"]] == [
        (3, "Set5", 5),
        (4, "Set5", 5),
    ]
    for each in document["cells"]:
        paper = next(row.scores["Set5"] for row in paper_rows(each["scale"]) if row.method == "SSIU")
        assert each["paper"] == paper._asdict() and each["agrees"] == {"psnr": False, "ssim": False}
        summary = json.loads((folder / f"cells/x{each['scale']}_Set5.json").read_text())
        for protocol in ("standard", "official"):
            mean = summary["protocols"][protocol]["Set5"]
            assert each[protocol] == {"psnr": mean["psnr"], "ssim": mean["ssim"]} and each[protocol]["psnr"] < 30
    assert (tmp_path / "here/pretrain_model/model_x4_290.pt").exists()
    page = (folder / "reproduce.html").read_text()
    assert "0 of 2 cells agree" in page and page.count("<table>") == 1 + 2 * 2 + 1 and "SSIU, here" in page
    table_command.main(["--scale", "4", str(folder / "cells/x4_Set5.json"), "--output", str(tmp_path / "table")])
    rows = [line.split(",") for line in (tmp_path / "table/table1_x4.csv").read_text().splitlines()]
    measured = [float(row[5]) for row in rows[1:] if row[3:5] == ["standard", "Set5"]]
    assert next(each["standard"]["psnr"] for each in document["cells"] if each["scale"] == 4) in measured


def test_an_argument_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    facts = {"command": f"ssiu reproduce --output {os.fsdecode(b'caf' + bytes([233]))}"}
    write_reproduction(tmp_path, reproduction_table([]), [], facts, [])
    for suffix in ("md", "html", "json"):
        assert r"--output caf\udce9" in (tmp_path / f"reproduce.{suffix}").read_text(encoding="utf-8")


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.usefixtures("small_set5")
def test_finished_cells_are_not_computed_again_unless_weights_or_images_changed(run: Run, tmp_path: Path) -> None:
    run(*ASKED)
    folder = tmp_path / "here/results/reproduce_authors/cells"
    first = times(folder)
    run.server.requests.clear()
    run(*ASKED)
    assert times(folder) == first and run.server.requests == []
    (folder / "x3_Set5.json").write_text("{}")
    run(*ASKED)
    second = times(folder)
    assert second["x4_Set5.json"] == first["x4_Set5.json"] and second["x3_Set5.json"] > first["x3_Set5.json"]
    lr = tmp_path / "here/data/benchmark/Set5/LR_bicubic/X4/0x4.png"
    lr.write_bytes(lr.read_bytes())
    run(*ASKED)
    third = times(folder)
    assert third["x4_Set5.json"] > second["x4_Set5.json"] and third["x3_Set5.json"] == second["x3_Set5.json"]
    save_weights(tmp_path / "here/pretrain_model/SSIU_x3.safetensors", tiny(3, seed=1))
    run("--scale", "3", "--sets", "Set5", "--weights", "ours", "--output", str(folder.parent))
    fourth = times(folder)
    assert fourth["x3_Set5.json"] > third["x3_Set5.json"] and fourth["x4_Set5.json"] == third["x4_Set5.json"]


@pytest.mark.usefixtures("small_set5")
def test_a_kept_cell_says_what_computed_it_and_a_damaged_one_is_computed_again(run: Run, tmp_path: Path) -> None:
    asked = ("--scale", "4", "--sets", "set5")
    run(*asked)
    folder = tmp_path / "here/results/reproduce_authors"
    path = folder / "cells/x4_Set5.json"
    whole = json.loads(path.read_text())
    assert json.loads((folder / "reproduce.json").read_text())["computed with"] == whole["computed_with"]
    path.write_text(json.dumps(whole | {"computed_with": "torch 0.1 on an abacus"}))
    run(*asked)
    document = json.loads((folder / "reproduce.json").read_text())
    assert document["computed with"] == document["cells"][0]["computed_with"] == "torch 0.1 on an abacus"
    mean = {"Set5": {"psnr": 10**400, "ssim": 0.5}}
    for damaged in ({"protocols": {}}, {"protocols": {"standard": mean, "official": mean}}):
        path.write_text(json.dumps(whole | damaged))
        run(*asked)
        assert json.loads(path.read_text()) == whole
    path.write_text("[" * 100_000)
    run(*asked)
    assert json.loads(path.read_text()) == whole


@pytest.mark.usefixtures("small_set5")
def test_a_kill_between_two_cells_keeps_the_first(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "here/results/reproduce_authors/cells"

    def killed() -> None:
        original, seen = evaluate_module.score, []

        def score(*arguments):
            seen.append(1)
            if len(seen) > 2 * 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        evaluate_module.score = score
        run(*ASKED)

    assert in_child(killed)[0] == -9
    first = times(folder)
    assert list(first) == ["x3_Set5.json"]
    run(*ASKED)
    assert times(folder)["x3_Set5.json"] == first["x3_Set5.json"] and len(times(folder)) == 2


@pytest.mark.usefixtures("small_set5")
def test_other_weights_under_the_authors_name_are_never_scored_as_theirs(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "here/pretrain_model/model_x4_290.pt"
    save_authors_weights(file, tiny(4, seed=5))
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"model_x4_290\.pt exists but is not the authors' release"):
        run("--scale", "4", "--sets", "Set5")
    assert file.read_bytes() == before and not (tmp_path / "here/results").exists()


def test_one_copy_is_not_scored_under_two_names(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "here/data/benchmark/Set5"
    write_set(root, ["a"], scale=4, size=(48, 60))
    (root / "HR").rename(root / "GTmod12")
    (root / "LR_bicubic/X4").rename(root / "LRbicx4")
    with pytest.raises(ConfigError, match=r"--sets: Set5 mod12 in .* are one set under two names"):
        run("--scale", "4", "--sets", "Set5", "Set5 mod12")


@pytest.mark.usefixtures("small_set5")
def test_what_cannot_be_had_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--sets Set55: the paper's sets are Set5, "):
        run("--sets", "Set55")
    with pytest.raises(MissingInputError, match=r"SSIU_x4\.safetensors is in none of"):
        run("--scale", "4", "--sets", "Set5", "--weights", "ours")
    run.server.always["/model_x4_290.pt"] = "page"
    with pytest.raises(BadInputError, match=r"sends a web page .*or put model_x4_290\.pt into .*pretrain_model"):
        run("--scale", "4", "--sets", "Set5")
    assert not (tmp_path / "here/results").exists()


@pytest.mark.usefixtures("archive")
def test_what_is_there_is_finished_and_what_is_missing_is_named_with_the_way_to_put_it_there(
    run: Run, tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture
) -> None:
    """No network but for the x4 weights: Set14 is there, Set5 and Manga109 are not, nor the x3 weights."""
    run.server.always |= {"/benchmark": "busy", "/model_x3_290.pt": "silence"}
    set14 = tmp_path / "here/data/benchmark/Set14"
    for folder, name in (("HR", "bridge.png"), ("LR_bicubic/X4", "bridgex4.png")):
        (set14 / folder).mkdir(parents=True)
        (set14 / folder / name).symlink_to(shared / "data/benchmark/Set14" / folder / name)
    with pytest.raises(BusyError, match="answers 503"):
        run("--scale", "3", "4", "--sets", "Set5", "Set14", "Manga109")
    folder = tmp_path / "here/results/reproduce_authors"
    document = json.loads((folder / "reproduce.json").read_text())
    assert [(each["scale"], each["set"]) for each in document["cells"]] == [(4, "Set14")]
    listed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    hr = "data/benchmark/{}/HR and make their LR: python -m ssiu prepare data/benchmark/{}/HR"
    for expected in (
        "put its 5 images into " + hr.format("Set5", "Set5"),
        "apply at https://manga109.org, then put its 109 images into " + hr.format("Manga109", "Manga109"),
        "nothing was received for 0.3 s; or put model_x3_290.pt into",
    ):
        assert sum(expected in line for line in listed) == 1, (expected, listed)
    run.server.always.clear()
    run("--scale", "4", "--sets", "Set5", "Set14")
    document = json.loads((folder / "reproduce.json").read_text())
    assert [(each["scale"], each["set"]) for each in document["cells"]] == [(4, "Set5"), (4, "Set14")]

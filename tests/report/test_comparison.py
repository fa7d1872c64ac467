"""Two methods on the same images: what is compared, what is left out, what is said of it, and `ssiu compare`."""

import csv
import json
import math

import numpy as np
import pytest
from small_sets import write_set

from ssiu.cli.compare import main
from ssiu.errors import BadInputError, ConfigError, MissingInputError
from ssiu.evaluation.metrics import Score
from ssiu.evaluation.scores import Evaluation, ImageResult, read_per_image
from ssiu.evaluation.statistics import difference
from ssiu.images.io import save_image
from ssiu.report.comparison import ALL, Method, compare

IMAGES = {"Set5": 5, "Set14": 14}


def evaluation(gain=0.0, sets=IMAGES, seed=0, protocols=("standard", "official")):
    """Scores that differ by ``gain`` and noise of ``seed``; seed 0 has none."""
    rng, noise = np.random.default_rng(1), np.random.default_rng(seed)
    images = []
    for set_name, count in sets.items():
        for index in range(count):
            psnr = rng.normal(30, 2) + gain + (noise.normal(0, 0.03) if seed else 0)
            scores = {protocol: Score(psnr, psnr / 40) for protocol in protocols}
            images.append(ImageResult(set_name, f"img{index:02}", 96, 64, scores))
    return Evaluation(images, tuple(protocols))


def write_results(folder, scores, scale=4):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "per_image.csv").write_text(scores.per_image_csv())
    (folder / "summary.json").write_text(json.dumps(scores.summary(model="m", scale=scale)))
    return str(folder)


def test_what_was_written_is_read_again_with_all_digits(tmp_path):
    scores = evaluation(seed=3)
    scores.images[0].scores["standard"] = Score(math.inf, 1.0)
    write_results(tmp_path, scores)
    assert read_per_image(tmp_path / "per_image.csv") == scores


HEADER = "set,name,width,height,standard_psnr,standard_ssim\n"


@pytest.mark.parametrize(
    "text",
    ["", "set,name\n", "\x00", "a" * 200_000]
    + [HEADER + lines for lines in ("a,b,1,1,nan,1\n", "a,b,1,1,3,1\na,b,1,1,3,1\n", "a,b,x,1,3,1\n", "a\n")],
)
def test_another_file_is_no_results(tmp_path, text):
    (tmp_path / "per_image.csv").write_text(text)
    with pytest.raises(BadInputError, match=r"per_image\.csv is not from test\.py"):
        read_per_image(tmp_path / "per_image.csv")


def test_images_are_compared_by_name_whatever_their_order():
    first, other = evaluation(), evaluation(0.1, seed=2)
    shuffled = Evaluation(other.images[::-1], other.protocols)
    results = [compare(Method("A", [first]), Method("B", [run])) for run in (other, shuffled)]
    for result in results:
        by_name = {each.name: each for each in result.sets}
        assert list(by_name)[-1] == ALL and set(by_name) == {"Set5", "Set14", ALL}
        pairs = zip(first.images, other.images, strict=True)
        gains = [b.scores["standard"].psnr - a.scores["standard"].psnr for a, b in pairs]
        assert by_name["Set14"].found == difference([gains[5:]])
        assert by_name[ALL].found.mean == pytest.approx(np.mean(gains))
        assert by_name[ALL].means[1] - by_name[ALL].means[0] == pytest.approx(np.mean(gains))


def test_the_table_says_what_five_images_cannot_and_what_decides():
    text = compare(Method("A", [evaluation()]), Method("B", [evaluation(0.1)])).table().text()
    assert (
        "too few images" in text
        and "5 images cannot tell two methods apart at 5%; even if all gain, p is 0.0625" in text
    )
    assert "Set14: without 14 of 14 images (img00, img01, img02 and 11 more) B would not be ahead of A" in text
    behind = compare(Method("A", [evaluation(0.1)]), Method("B", [evaluation()])).table()
    assert {row[-1] for row in behind.rows} == {"too few images", "worse"}
    open_ = compare(Method("A", [evaluation(seed=4)]), Method("B", [evaluation(seed=5)])).table()
    assert open_.rows[1][-1] == "not told apart"


def test_seeds_of_one_name_are_averaged_and_their_spread_is_a_column_of_its_own():
    seeds = [evaluation(0.1, seed=seed) for seed in (1, 2, 3)]
    result = compare(Method("A", [evaluation()]), Method("B", seeds))
    set14 = result.sets[1]
    means = [seed.mean("Set14").psnr for seed in seeds]
    assert set14.means[1] == pytest.approx(np.mean(means))
    assert set14.deviations[1] == pytest.approx(np.std(means, ddof=1)) and math.isnan(set14.deviations[0])
    table = result.table()
    assert table.header[-1] == "over seeds" and "1 seed of A and 3 seeds of B" in " ".join(table.notes)
    one = compare(Method("A", [evaluation()]), Method("B", seeds[:1])).table()
    assert "over seeds" not in one.header


def test_an_exact_image_and_a_set_of_one_method_are_left_out_and_named():
    first, other = evaluation(), evaluation(0.1, sets=IMAGES | {"B100": 2})
    other.images[0].scores["standard"] = Score(math.inf, 1.0)
    result = compare(Method("A", [first]), Method("B", [other]))
    assert [each.found.images for each in result.sets] == [4, 14, 18]
    notes = " ".join(result.notes)
    assert "infinite: Set5/img00." in notes and "only one of them has it: B100." in notes


def test_what_cannot_be_compared_is_named():
    def fails(error, match, run, **how):
        with pytest.raises(error, match=match):
            compare(Method("A", [evaluation()]), Method("B", [run]), **how)

    fails(MissingInputError, "Set14: A and B do not have the same images .img13", evaluation(sets={"Set14": 13}))
    fails(MissingInputError, "by all: A has Set5, Set14; B has mine", evaluation(sets={"mine": 4}))
    fails(MissingInputError, "B was not scored under official", evaluation(protocols=["standard"]), protocol="official")
    cropped = Evaluation([ImageResult("Set5", f"img{i:02}", 96, 60, each.scores) for i, each in
                          enumerate(evaluation().of("Set5"))], ("standard", "official"))  # fmt: skip
    fails(BadInputError, "Set5/img00 is 96x64 for A and 96x60 for B", cropped)


def test_the_command_compares_folders_summaries_and_tables_and_writes_them(tmp_path, capsys):
    a = write_results(tmp_path / "A", evaluation())
    b = write_results(tmp_path / "B", evaluation(0.1, seed=2))
    (tmp_path / "C.csv").write_text(evaluation(-0.1, seed=3).per_image_csv())
    main([a, b + "/summary.json", str(tmp_path / "C.csv"), "--output", str(tmp_path / "out"), "--number", "ssim"])
    printed = capsys.readouterr().out
    assert "B beside A: SSIM, standard" in printed and "C beside A: SSIM, standard" in printed
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"compare.csv", "compare.md", "compare.tex", "gains.csv", "gains.png", "gains.pdf"}
    lines = list(csv.DictReader((tmp_path / "out/compare.csv").open()))
    assert [(line["other"], line["set"]) for line in lines] == [(m, s) for m in "BC" for s in (*IMAGES, ALL)]
    gains = list(csv.DictReader((tmp_path / "out/gains.csv").open()))
    for line in lines:
        kept = [float(g["gain"]) for g in gains if g["other"] == line["other"] and line["set"] in (g["set"], ALL)]
        assert float(line["difference"]) == pytest.approx(np.mean(kept)) and len(kept) == int(line["images"])


def test_the_command_scores_folders_of_images(tmp_path, capsys):
    rng = np.random.default_rng(0)
    hr = {f"i{n}": rng.integers(60, 200, (32, 32, 3), dtype=np.uint8) for n in range(6)}
    write_set(tmp_path, "mine", 2, hr)
    for name, error in (("A", 9), ("B", 5)):
        for stem, image in hr.items():
            path = tmp_path / name / f"{stem}_x2.png"
            path.parent.mkdir(exist_ok=True)
            save_image(path, image + np.uint8(error))
    main([str(tmp_path / "A"), str(tmp_path / "B"), "--hr", str(tmp_path / "benchmark/mine/HR"), "--scale", "2"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine")).split()
    assert row[1] == "6" and float(row[4]) == pytest.approx(20 * math.log10(9 / 5), abs=1e-3) and row[-1] == "better"


def test_the_command_refuses_what_is_not_comparable(tmp_path):
    a = write_results(tmp_path / "A", evaluation())
    b = write_results(tmp_path / "B", evaluation(), scale=2)
    (tmp_path / "images").mkdir()
    for error, match, arguments in (
        (ConfigError, "A is of x4 and .*B of x2", [a, b]),
        (ConfigError, "'A' is the only method", [a]),
        (ConfigError, "'A' is the only method", [a, a]),
        (ConfigError, "--hr and --scale belong together", [a, b, "--scale", "2"]),
        (MissingInputError, "images: no results of test.py .*add --hr HR_DIR", [a, str(tmp_path / "images")]),
        (MissingInputError, "nowhere/summary.json: No such file", [a, str(tmp_path / "nowhere/summary.json")]),
    ):
        with pytest.raises(error, match=match):
            main(arguments)

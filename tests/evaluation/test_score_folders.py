"""Scoring a folder of images: pairing by stem, sizes, and the same JSON as test.py."""

import json

import numpy as np
import pytest
from small_sets import photo

from ssiu.cli import score as score_command
from ssiu.data.catalog import known_name, usual_name
from ssiu.data.test_sets import copy_name
from ssiu.errors import BadInputError, MissingInputError, OutputError
from ssiu.evaluation.metrics import KNOWN, score
from ssiu.evaluation.score_folders import score_folders
from ssiu.evaluation.scores import read_per_image
from ssiu.images.io import save_image


def _folders(tmp_path, sr, hr):
    for folder, images in (("SR", sr), ("Mine/HR", hr)):
        (tmp_path / folder).mkdir(parents=True)
        for name, image in images.items():
            save_image(tmp_path / folder / name, image)
    return tmp_path / "SR", tmp_path / "Mine/HR"


HR = photo("coffee", 42, 51)
SR = np.clip(HR[:40, :48].astype(int) + 3, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["cup.png", "cupx4.png", "cup_x4.png", "cup.bmp"])
def test_images_pair_by_stem_with_or_without_the_scale_and_hr_is_cropped(tmp_path, name):
    found = score_folders(*_folders(tmp_path, {name: SR}, {"cup.png": HR}), 4)
    assert found.images[0].name == "cup"
    assert found.images[0].set_name == "Mine"
    for protocol in ("standard", "official"):
        assert found.images[0].scores[protocol] == score(SR, HR[:40, :48], 4, protocol)


def test_the_suffix_of_another_scale_is_another_name(tmp_path):
    with pytest.raises(MissingInputError, match=r"1 HR images have no SR image: cup; 1 SR .*: cupx4\.png"):
        score_folders(*_folders(tmp_path, {"cupx4.png": SR}, {"cup.png": HR}), 3)


def test_two_candidates_for_one_original_are_refused(tmp_path):
    folders = _folders(tmp_path, {"cup.png": SR, "cup_x4.png": SR}, {"cup.png": HR})
    with pytest.raises(BadInputError, match=r"cup\.png and cup_x4\.png"):
        score_folders(*folders, 4)


def test_missing_and_surplus_images_are_counted_and_five_are_named(tmp_path):
    many = {f"p{i}.png": SR for i in range(8)}
    with pytest.raises(MissingInputError, match=r"7 HR images have no SR image: p1, p2, p3, p4, p5 and 2 more"):
        score_folders(*_folders(tmp_path, {"p0.png": SR}, many), 4)


@pytest.mark.parametrize(
    "sr, expected",
    [
        (SR[:38], r"cup\.png is 48x38 .*cup\.png is 51x42"),  # 4 rows less: one LR row is missing
        (SR.swapaxes(0, 1), "is 40x48"),
        (np.zeros((44, 51, 3), np.uint8), "is 51x44"),  # larger than HR
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_both(tmp_path, sr, expected):
    with pytest.raises(BadInputError, match=expected):
        score_folders(*_folders(tmp_path, {"cup.png": sr}, {"cup.png": HR}), 4)


def test_a_image_too_small_to_score_is_named(tmp_path):
    folders = _folders(tmp_path, {"dot.png": SR[:18]}, {"dot.png": HR[:18]})
    with pytest.raises(BadInputError, match=r"dot\.png: a 48x18 image is too small"):
        score_folders(*folders, 4)


def test_absent_and_empty_folders_are_named(tmp_path):
    sr, hr = _folders(tmp_path, {"cup.png": SR}, {})
    with pytest.raises(MissingInputError, match="HR: holds no images"):
        score_folders(sr, hr, 4)
    with pytest.raises(MissingInputError, match="nowhere: no such folder"):
        score_folders(sr, tmp_path / "nowhere", 4)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Set5/HR", "Set5"), ("set14/hr", "Set14"), ("Set5/GTmod12", "Set5 mod12"), ("b100/gtMOD12", "B100 mod12")]
    + [("mine/HR", "mine"), ("mine/GTmod12", "mine mod12"), ("urban100", "Urban100")],
)
def test_the_set_and_its_copy_are_called_as_test_py_calls_them(tmp_path, folder, name):
    sr, hr = _folders(tmp_path, {"cup.png": SR}, {"cup.png": HR})
    (tmp_path / folder).parent.mkdir(exist_ok=True)
    assert score_folders(sr, hr.rename(tmp_path / folder), 4).sets == [name]


def test_a_mod12_copy_is_known_by_its_sizes_too(tmp_path):
    sr, hr = _folders(tmp_path, {"cup.png": HR[:36, :48]}, {"cup.png": HR[:36, :48]})
    (tmp_path / "Set5").mkdir()
    assert score_folders(sr, hr.rename(tmp_path / "Set5/HR"), 4).sets == ["Set5 mod12"]


def test_a_copy_of_even_sides_is_named_where_the_whole_usual_set_has_odd_ones():
    odd, even = [(481, 321), (321, 481)], [(480, 320), (320, 480)]
    assert copy_name("B100", odd * 50) == "B100"
    assert copy_name("B100", even * 50) == "B100 mod2" and usual_name("B100 mod2") == "B100"
    assert copy_name("B100", even) == "B100", "two of its images may be even"
    assert copy_name("Set5", [(512, 512), (228, 344)] * 2 + [(280, 280)]) == "Set5", "it has even sides anyway"
    assert copy_name("mine", even * 50) == "mine" and known_name("bsd100 MOD2") == "B100 mod2"


def test_names_that_end_in_a_suffix_are_matched_when_it_is_given(tmp_path, capsys):
    sr, hr = _folders(tmp_path, {"cup_IMDN.png": SR, "capx4_IMDN.png": SR}, {"cup.png": HR, "cap.png": HR})
    with pytest.raises(MissingInputError, match=r"looked for NAME, NAMEx4, NAME_x4 .*--suffix says what else ends"):
        score_folders(sr, hr, 4)
    _score(sr, hr, "--scale", 4, "--suffix", "_IMDN", "--float", "--csv", tmp_path / "out/imdn.csv")
    header = capsys.readouterr().out.splitlines()[1].split()
    assert header[-3:] == ["standard", "official", "float"]
    read = read_per_image(tmp_path / "out/imdn.csv")
    assert read == score_folders(sr, hr, 4, KNOWN, "_IMDN") and [image.name for image in read.images] == ["cap", "cup"]
    with pytest.raises(MissingInputError, match="looked for NAME_PAN, NAMEx4_PAN, NAME_x4_PAN"):
        score_folders(sr, hr, 4, suffix="_PAN")


def _score(*arguments):
    score_command.main(list(map(str, arguments)))


def test_the_published_imdn_row_comes_out_of_its_images(shared, tmp_path, capsys):
    hr = shared / "data/benchmark/Set5/HR"
    _score(shared / "reference/imdn_set5_x4", hr, "--scale", 4, "--model", "IMDN", "--json", tmp_path / "a.json")
    assert "32.21 / 0.8948" in capsys.readouterr().out
    document = json.loads((tmp_path / "a.json").read_text())
    assert {key: document[key] for key in ("model", "scale", "checkpoint", "weights_sha256")} == {
        "model": "IMDN",
        "scale": 4,
        "checkpoint": None,
        "weights_sha256": None,
    }
    recorded = json.loads((shared / "reference/imdn_set5_x4/metrics.json").read_text())["mean"]
    for protocol, mean in recorded.items():
        found = document["protocols"][protocol]["Set5"]
        assert found["images"] == 5
        assert found["psnr"] == pytest.approx(mean["psnr"], abs=1e-4)
        assert found["ssim"] == pytest.approx(mean["ssim"], abs=5e-5)


def test_the_terminal_says_what_flat_and_equal_images_do_to_the_numbers(tmp_path, capsys):
    flat = {f"{level}.png": np.full((40, 48, 3), level, np.uint8) for level in (3, 120, 200)}
    off = {"3.png": flat["3.png"] + 2, "120.png": flat["120.png"], "200.png": flat["200.png"] + 1}
    sr, hr = _folders(tmp_path, off, flat)
    _score(sr, hr, "--scale", 2, "--json", tmp_path / "a.json")
    printed = capsys.readouterr().out
    assert "Mine (standard): 1 of 3 images equal their originals (120)" in printed
    assert "The official SSIM of Mine/200, Mine/3 is above 1 (up to 1." in printed
    for found in json.loads((tmp_path / "a.json").read_text())["protocols"].values():
        assert 40 < found["Mine"]["psnr"] < 60 and found["Mine"]["exact"] == ["120"]


def test_a_place_that_json_cannot_be_written_to_is_known_before_any_work(tmp_path):
    sr, hr = _folders(tmp_path, {"cup.png": SR}, {"cup.png": HR})
    with pytest.raises(OutputError):
        _score(sr, hr, "--scale", 4, "--json", sr / "cup.png" / "a.json")
    assert not list(tmp_path.rglob("*.json"))


def test_the_numbers_are_printed_even_where_they_cannot_be_written(tmp_path, capsys):
    sr, hr = _folders(tmp_path, {"cup.png": SR}, {"cup.png": HR})
    with pytest.raises(OutputError):
        _score(sr, hr, "--scale", 4, "--json", sr)
    assert "PSNR dB / SSIM" in capsys.readouterr().out

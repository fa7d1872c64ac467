"""Layouts: every one in the table is read by name and checked; nested folders, other spellings and HR alone too."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_run import tiny_config
from toy_sets import write_set

from ssiu.cli import check
from ssiu.data.check import check_set, find_sets
from ssiu.data.layouts import LAYOUTS, available_sets, image_files, list_images, set_folders
from ssiu.data.pairs import find_pairs
from ssiu.data.test_sets import load_test_set
from ssiu.data.training_data import build_stream
from ssiu.errors import BadInputError, ConfigError, MissingInputError, SSIUError
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.score_folders import score_folders
from ssiu.images.bicubic import make_lr
from ssiu.images.io import read_rgb
from ssiu.inference.networks import Bicubic
from ssiu.training.trainer import Trainer

NAMES = ["a", "b_x2", "x2"]
AS_OTHERS_HAVE_THEM = [  # HR folder, LR folder, end of the LR names
    ("HR", "LR_bicubic/X2", "x2"),
    ("hr", "lr_bicubic/x2", ""),
    ("HR", "LR/x2", "_x2"),
    ("HR", "LR/2x", "x2"),
    ("HR", "2x", ""),
    ("HR", "X2", "x2"),
    ("HR", "LR", ""),
    ("gt", "lq", ""),
    ("GT", "LQ", "_x2"),
    ("Toy_train_HR", "Toy_train_LR_bicubic/X2", "x2"),
    ("Toy_HR", "Toy_LR_bicubic/X2", "x2"),
    ("Toy_train_HR_sub", "X2_sub", ""),
    ("Toy_train_HR_sub", "Toy_train_LR_bicubic/X2_sub", "x2"),
    ("GTmod12", "LRbicx2", ""),
]
IN_THE_TABLE = [
    (layout.hr.replace("{set}", "Toy"), lr.replace("{set}", "Toy").replace("{s}", "2"), "x2")
    for layout in LAYOUTS
    for lr in layout.lr
]


def lay_out(root: Path, hr: str, lr: str, end: str = "x2", inside: str = "") -> None:
    """A x2 set of `NAMES` in ``root``, all but the first of its images in the folder ``inside``."""
    write_set(root / "made", NAMES, size=(48, 60))
    for folder, source, name in ((hr, "HR", "{}"), (lr, "LR_bicubic/X2", "{}" + end)):
        for index, each in enumerate(NAMES):
            target = root / folder / (inside if index else "") / f"{name.format(each)}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(root / "made" / source / f"{each}{'x2' if source != 'HR' else ''}.png", target)
    shutil.rmtree(root / "made")


@pytest.mark.parametrize("inside", ["", "0001/deeper"], ids=["flat", "nested"])
@pytest.mark.parametrize("place", ["Toy", "benchmark/Toy"])
@pytest.mark.parametrize(("hr", "lr", "end"), dict.fromkeys([*AS_OTHERS_HAVE_THEM, *IN_THE_TABLE]))
def test_a_layout_is_found_read_and_checked(
    tmp_path: Path, place: str, hr: str, lr: str, end: str, inside: str
) -> None:
    lay_out(tmp_path / place, hr, lr, end, inside)
    expected = sorted([NAMES[0], *(f"{inside}/{name}".lstrip("/") for name in NAMES[1:])])
    assert [pair.name for pair in find_pairs(tmp_path, "tOY", 2)] == expected
    test_set = load_test_set(tmp_path, "Toy", 2)
    for pair, (_, lr_pixels, hr_pixels) in zip(test_set.pairs, test_set, strict=True):
        assert pair.lr is not None and pair.lr.is_relative_to(tmp_path / place / lr)
        np.testing.assert_array_equal(lr_pixels, make_lr(hr_pixels, 2))
    (found,) = available_sets(tmp_path)
    hr_report, lr_report = check_set(*find_sets(tmp_path)[:1], found)
    assert (hr_report.images, lr_report.images, lr_report.part) == (3, 3, "x2")
    assert not hr_report.problems and not lr_report.problems and lr_report.differing == 0


def test_a_set_in_two_layouts_is_read_in_the_usual_one_and_the_other_has_a_name(tmp_path: Path) -> None:
    lay_out(tmp_path / "Toy", "Toy_train_HR_sub", "X2_sub")
    assert available_sets(tmp_path) == ["Toy sub"]
    assert list(find_pairs(tmp_path, "toy", 2)) == list(find_pairs(tmp_path, "Toy sub", 2))
    lay_out(tmp_path / "Toy", "Toy_train_HR", "Toy_train_LR_bicubic/X2")
    lay_out(tmp_path / "Toy", "GTmod12", "LRbicx2")
    assert available_sets(tmp_path) == ["Toy", "Toy mod12", "Toy sub"]
    for name, folder in (("toy", "Toy_train_HR"), ("Toy sub", "Toy_train_HR_sub"), ("Toy mod12", "GTmod12")):
        assert {pair.hr.parent.name for pair in find_pairs(tmp_path, name, 2)} == {folder}


def test_lr_images_without_a_scale_are_those_of_one_scale(tmp_path: Path) -> None:
    lay_out(tmp_path / "Toy", "gt", "lq", "")
    with pytest.raises(BadInputError, match=r"lq/.*looks like an x2 pair"):
        find_pairs(tmp_path, "Toy", 3)
    folders = set_folders(tmp_path, "Toy")
    assert folders is not None
    assert folders.lr_folders() == {2: tmp_path / "Toy/lq"}
    assert folders.lr(3) == tmp_path / "Toy/LR_bicubic/X3"  # where prepare would write
    shutil.move(tmp_path / "Toy/lq", tmp_path / "Toy/LR_bicubic/X2")
    assert find_pairs(tmp_path, "Toy", 3)[0].lr is None


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_hr_alone_is_enough_and_lr_is_what_prepare_makes(tmp_path: Path, scale: int, caplog) -> None:
    write_set(tmp_path / "data/toy", ["a", "b"], size=(50, 63), scale=2)
    shutil.rmtree(tmp_path / "data/toy/LR_bicubic")
    caplog.set_level("INFO", "ssiu")
    (test_set,) = [load_test_set(tmp_path / "data", "toy", scale)]
    assert f"toy: no {tmp_path}/data/toy/LR_bicubic/X{scale}, so x{scale} LR is made of HR" in caplog.text
    stream = build_stream(
        tiny_config(tmp_path, training_dataset="toy", scale=scale, patch_size=8 * scale, data_augment=False)
    )
    for index, (pair, made) in enumerate(zip(test_set.pairs, test_set, strict=True)):
        expected = make_lr(read_rgb(pair.hr), scale)
        assert expected.shape[:2] == pair.lr_size
        np.testing.assert_array_equal(made[1], expected)
        lr, hr = stream.sets[0].open(index)
        np.testing.assert_array_equal(lr.transpose(1, 2, 0), expected)
        np.testing.assert_array_equal(hr.transpose(1, 2, 0), read_rgb(pair.hr))
    assert not list((tmp_path / "data/toy").glob("L*"))


def test_hr_that_is_too_small_for_the_scale_is_named(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a", "b"], size=(3, 60), scale=2)
    shutil.rmtree(tmp_path / "toy/LR_bicubic")
    with pytest.raises(BadInputError, match=r"a\.png: 60x3 is too small for x4; 2 such pairs: a, b$"):
        find_pairs(tmp_path, "toy", 4)


def test_a_link_that_leads_back_and_hidden_files_are_passed_over_once(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a"])
    hr = tmp_path / "toy/HR"
    (hr / "more").mkdir()
    shutil.copy(hr / "a.png", hr / "more/a.png")
    (hr / "more/back").symlink_to(hr)
    (hr / "again").symlink_to("more")
    (hr / "more/twice").symlink_to("../again")
    for hidden in (".thumbnails/a.png", ".a.png", "more/._a.png", "more/notes.txt"):
        (hr / hidden).parent.mkdir(exist_ok=True)
        (hr / hidden).write_bytes(b"junk")
    names = [name for name, _ in image_files(hr)]
    assert names == ["a", "more/a"]


def test_two_images_of_one_name_are_refused_in_any_folder(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a"])
    (tmp_path / "toy/HR/more").mkdir()
    for name in ("a.png", "a.bmp"):
        shutil.copy(tmp_path / "toy/HR/a.png", tmp_path / "toy/HR/more" / name)
    with pytest.raises(BadInputError, match=r"HR/more: a\.bmp and a\.png have the same name"):
        list_images(tmp_path / "toy/HR")


def test_a_folder_that_may_not_be_read_is_named_and_not_taken_for_empty(tmp_path: Path, monkeypatch) -> None:
    write_set(tmp_path / "toy", ["a"])
    (tmp_path / "toy/HR/more").mkdir()

    def scandir(path: str) -> object:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(MissingInputError, match=r"HR/more: cannot be read \(Permission denied\)"):
        list_images(tmp_path / "toy/HR")


def test_one_missing_lr_image_in_a_subfolder_is_named_by_train_test_and_check(tmp_path: Path, capsys) -> None:
    lay_out(tmp_path / "data/Toy", "HR", "LR_bicubic/X2", "x2", "deep")
    (tmp_path / "data/Toy/LR_bicubic/X2/deep/x2x2.png").unlink()
    for use in (
        lambda: build_stream(tiny_config(tmp_path, training_dataset="Toy")),
        lambda: load_test_set(tmp_path / "data", "Toy", 2),
        lambda: check.main([str(tmp_path / "data")]),
    ):
        with pytest.raises(MissingInputError, match=r"1 HR images have no LR image in .*: deep/x2 "):
            use()


def test_nested_images_are_scored_and_saved_under_their_names(tmp_path: Path) -> None:
    lay_out(tmp_path / "Toy", "HR", "LR_bicubic/X2", "x2", "deep")
    test_set = load_test_set(tmp_path, "Toy", 2)
    result = evaluate(Bicubic(2), [test_set], save_to=tmp_path / "out")
    assert [image.name for image in result.images] == ["a", "deep/b_x2", "deep/x2"]
    scored = score_folders(tmp_path / "out/Toy", tmp_path / "Toy/HR", 2)
    assert [image.scores["standard"].psnr for image in scored.images] == pytest.approx(
        [image.scores["standard"].psnr for image in result.images], abs=0.01
    )


# folders said outright


def test_folders_anywhere_are_trained_on(tmp_path: Path) -> None:
    lay_out(tmp_path / "elsewhere", "photos", "small", "_x2", "deep")
    (tmp_path / "data").mkdir()
    folders = {"hr_folder": str(tmp_path / "elsewhere/photos"), "lr_folder": str(tmp_path / "elsewhere/small")}
    paired = build_stream(tiny_config(tmp_path, **folders))
    alone = build_stream(tiny_config(tmp_path, hr_folder=folders["hr_folder"]))
    assert len(paired.sets[0]) == len(alone.sets[0]) == 3
    for ours, theirs in zip(alone.batch(0), paired.batch(0), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert paired.names(0)[0].startswith(folders["hr_folder"] + "/")
    lay_out(tmp_path / "more", "photos", "small", "", "deep")
    two = {key: [folder, str(tmp_path / "more" / Path(folder).name)] for key, folder in folders.items()}
    both = build_stream(tiny_config(tmp_path, **two))
    assert [len(each) for each in both.sets] == [3, 3] and both.samples_per_epoch == 2 * paired.samples_per_epoch
    assert both.sets[0].digest == paired.sets[0].digest
    assert tiny_config(tmp_path, hr_folder=["x"]) == tiny_config(tmp_path, hr_folder="x")


def test_what_is_wrong_with_folders_said_outright_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError, match="lr_folder holds the LR images of hr_folder, which is not given"):
        tiny_config(tmp_path, lr_folder="x")
    with pytest.raises(ConfigError, match="hr_folder is one set, and training_dataset names several"):
        tiny_config(tmp_path, hr_folder="x", training_dataset=["a", "b"])
    with pytest.raises(ConfigError, match="each folder in hr_folder needs one in lr_folder"):
        tiny_config(tmp_path, hr_folder=["x", "y"], lr_folder="z")
    for folders in ([], ["x", "x"]):
        with pytest.raises(ConfigError, match="'hr_folder': expected one folder or more, each named once"):
            tiny_config(tmp_path, hr_folder=folders)
    with pytest.raises(MissingInputError, match="/absent: no such folder"):
        build_stream(tiny_config(tmp_path, hr_folder=str(tmp_path / "absent")))


# a part of a set


@pytest.mark.parametrize(
    "text",
    ["b\nd/c\n", "b.png\r\n\r\n  d/c.png  ", "\ufeffd/c\nb\nb\n", "b.png (40,60,3) 1\nd/c.png (40, 60, 3)"],
    ids=repr,
)
def test_a_list_of_names_chooses_a_part_of_the_set(tmp_path: Path, text: str) -> None:
    write_set(tmp_path / "data/toy", ["a", "b", "c"])
    for folder, name in (("HR", "c.png"), ("LR_bicubic/X2", "cx2.png")):
        (tmp_path / "data/toy" / folder / "d").mkdir()
        shutil.move(tmp_path / "data/toy" / folder / name, tmp_path / "data/toy" / folder / "d" / name)
    (tmp_path / "part.txt").write_bytes(text.encode())
    stream = build_stream(tiny_config(tmp_path, training_dataset="toy", image_list=str(tmp_path / "part.txt")))
    assert stream.sets[0].pairs.names == ["b", "d/c"] and stream.samples_per_epoch == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no file at .*part.txt; expected a text file of image names"),
        ("", "names no image; expected one a line"),
        (b"\xff\xfe", "not a text file in UTF-8"),
        ("a\nz\ny\n", r"'image_list': .*part.txt names images that no training set has: y, z"),
        ("a\n", "part.txt names no image of other"),
    ],
)
def test_what_is_wrong_with_a_list_of_names_is_a_line(tmp_path: Path, text: str | bytes | None, expected: str) -> None:
    write_set(tmp_path / "data/toy", ["a", "b"])
    write_set(tmp_path / "data/other", ["c"])
    if text is not None:
        (tmp_path / "part.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    config = tiny_config(tmp_path, training_dataset=["toy", "other"], image_list=str(tmp_path / "part.txt"))
    with pytest.raises(SSIUError, match=expected):
        build_stream(config)


def test_another_list_of_names_on_resume_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "data/toy", ["a", "b", "c"], size=(60, 60))
    for name, text in (("ab", "a\nb\n"), ("ac", "a\nc\n"), ("ba", "b\na\n")):
        (tmp_path / f"{name}.txt").write_text(text)

    def run(name: str) -> str:
        keys = {"training_dataset": "toy", "image_list": str(tmp_path / f"{name}.txt"), "max_iterations": 1}
        return Trainer(tiny_config(tmp_path, **keys), "auto").run()

    run("ab")
    with pytest.raises(BadInputError, match="the training images are not those of"):
        run("ac")
    assert run("ba").startswith("already complete")

"""Pairs: every layout is found, every misfit is named before any work."""

import shlex
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from toy_sets import write_set

from ssiu.cli import prepare
from ssiu.config.load import make_config
from ssiu.data.layouts import available_sets
from ssiu.data.pairs import find_pairs, prepare_command
from ssiu.data.test_sets import load_test_sets
from ssiu.errors import ConfigError, MissingInputError, SSIUError
from ssiu.images.io import save_image

USE_TOY = {"eval_sets": ["toy"], "scale": 2}


@pytest.mark.parametrize("root", ["benchmark/Toy", "Toy", "toy"])
def test_set_layouts_are_found_whatever_the_case(tmp_path: Path, root: str) -> None:
    write_set(tmp_path / root, ["b", "a"])
    pairs = find_pairs(tmp_path, "tOY", 2)
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert pairs[0].lr_size == (20, 30) and pairs[0].hr_size == (40, 60)
    assert pairs[0].lr.name == "ax2.png" and pairs[0].hr.name == "a.png"


@pytest.mark.parametrize("name", ["DF2K", "DIV2K"])
def test_training_layout_is_found_from_the_config_spelling(tmp_path: Path, name: str) -> None:
    write_set(tmp_path / "plain", ["0001", "0901"])
    (tmp_path / name).mkdir()
    (tmp_path / "plain/HR").rename(tmp_path / name / f"{name}_train_HR")
    (tmp_path / "plain/LR_bicubic").rename(tmp_path / name / f"{name}_train_LR_bicubic")
    assert [pair.name for pair in find_pairs(tmp_path, name.lower(), 2)] == ["0001", "0901"]
    assert available_sets(tmp_path) == [name]


def make_mod12(root: Path, scale: int = 2) -> None:
    """Turns a set on disk into the other layout, whose LR images have no suffix."""
    (root / "HR").rename(root / "GTmod12")
    (root / f"LR_bicubic/X{scale}").rename(root / f"LRbicx{scale}")
    for path in (root / f"LRbicx{scale}").iterdir():
        path.rename(path.with_name(path.name.replace(f"x{scale}.", ".")))


@pytest.mark.parametrize("root", ["benchmark/Set5", "Set5"])
def test_a_mod12_copy_is_read_and_results_name_it(tmp_path: Path, root: str) -> None:
    write_set(tmp_path / root, ["b", "a"], size=(48, 60))
    make_mod12(tmp_path / root)
    assert available_sets(tmp_path) == ["Set5 mod12"]
    for name in ("Set5", "set5", "Set5 mod12"):
        config = make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": [name]})
        (test_set,) = load_test_sets(config)
        assert test_set.name == "Set5 mod12" and [pair.name for pair in test_set.pairs] == ["a", "b"]


def test_of_two_copies_each_has_its_name(tmp_path: Path) -> None:
    write_set(tmp_path / "benchmark/Set5", ["a"], size=(48, 60))
    make_mod12(tmp_path / "benchmark/Set5")
    write_set(tmp_path / "benchmark/Set5", ["a", "b"], size=(50, 61))
    assert available_sets(tmp_path) == ["Set5", "Set5 mod12"]
    assert len(find_pairs(tmp_path, "Set5", 2)) == 2 and len(find_pairs(tmp_path, "Set5 mod12", 2)) == 1
    config = make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["Set5", "Set5 mod12"]})
    assert [test_set.name for test_set in load_test_sets(config)] == ["Set5", "Set5 mod12"]


def test_one_copy_under_two_names_is_refused(tmp_path: Path) -> None:
    def load(*names: str) -> None:
        load_test_sets(make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": list(names)}))

    write_set(tmp_path / "benchmark/Set5", ["a"], size=(48, 60))
    make_mod12(tmp_path / "benchmark/Set5")
    with pytest.raises(ConfigError, match=r"'eval_sets'.*Set5 mod12 in .*GTmod12 and .*one set under two names"):
        load("Set5", "Set5 mod12")
    write_set(tmp_path / "benchmark/Set5", ["a"], size=(48, 60))  # a second mod12 copy, in the usual folders
    with pytest.raises(ConfigError, match=r"'eval_sets'.*Set5/HR and .*GTmod12"):
        load("Set5", "Set5 mod12")
    (tmp_path / "mine").symlink_to("benchmark/Set5")
    with pytest.raises(ConfigError, match="'eval_sets'"):
        load("mine", "Set5")


def test_mod12_images_in_the_usual_folders_are_named_too_but_not_ones_own(tmp_path: Path) -> None:
    for name in ("Set5", "mine"):
        write_set(tmp_path / name, ["a"], size=(48, 60))
    config = make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["Set5", "mine"]})
    assert [test_set.name for test_set in load_test_sets(config)] == ["Set5 mod12", "mine"]


def test_flickr2k_is_read_under_its_own_names(tmp_path: Path) -> None:
    write_set(tmp_path / "Flickr2K", ["000001"])
    (tmp_path / "Flickr2K/HR").rename(tmp_path / "Flickr2K/Flickr2K_HR")
    (tmp_path / "Flickr2K/LR_bicubic").rename(tmp_path / "Flickr2K/Flickr2K_LR_bicubic")
    assert [pair.name for pair in find_pairs(tmp_path, "flickr2k", 2)] == ["000001"]


@pytest.mark.parametrize("layout", ["HR", "hr", "Toy_train_HR", "Toy_HR", "GTmod12"])
def test_the_command_for_another_scale_keeps_the_layout_and_what_is_there(tmp_path: Path, layout: str) -> None:
    data = tmp_path / "it's mine"
    write_set(data / "Toy", ["a", "b"], size=(48, 60))
    if layout == "GTmod12":
        make_mod12(data / "Toy")
    else:
        (data / "Toy/HR").rename(data / "Toy" / layout)
        (data / "Toy/LR_bicubic").rename(data / "Toy" / f"{layout[:-2]}LR_bicubic")
    before = find_pairs(data, "Toy", 2)
    command = prepare_command(before[0].hr.parent, [3])
    prepare.main(shlex.split(command.removeprefix("python -m ssiu prepare ")))
    assert list(find_pairs(data, "Toy", 2)) == list(before)
    made = find_pairs(data, "Toy", 3)
    assert len(made) == 2 and all(pair.lr for pair in made)


@pytest.mark.parametrize(
    ("name", "command"),
    [("Urban100", "download benchmark --to"), ("df2k", "download df2k --to"), ("Manga109", "download manga109 --to")],
)
def test_a_set_that_can_be_downloaded_is_named_with_its_command(tmp_path: Path, name: str, command: str) -> None:
    for data_path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(MissingInputError, match=f"python -m ssiu {command} {data_path}$"):
            find_pairs(data_path, name, 2)
    with pytest.raises(MissingInputError) as caught:
        find_pairs(tmp_path, "mine", 2)
    assert "download" not in str(caught.value)


def test_names_with_spaces_unicode_and_without_the_scale_suffix(tmp_path: Path) -> None:
    names = ["a b", "München 北京", "x2", "p.q"]
    write_set(tmp_path / "toy", names)
    lr = tmp_path / "toy/LR_bicubic/X2"
    for name in names:
        (lr / f"{name}x2.png").rename(lr / f"{name}.png")
    for junk in (".DS_Store", "._a b.png", "Thumbs.db", "readme.txt"):
        (tmp_path / "toy/HR" / junk).write_bytes(b"junk")
    assert [pair.name for pair in find_pairs(tmp_path, "toy", 2)] == sorted(names)


def test_an_lr_image_belongs_to_one_hr_image(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a", "ax2"])
    assert [pair.lr.name for pair in find_pairs(tmp_path, "toy", 2)] == ["ax2.png", "ax2x2.png"]
    (tmp_path / "toy/LR_bicubic/X2/ax2x2.png").unlink()
    with pytest.raises(MissingInputError, match=r"1 HR images have no LR image in .*: ax2 "):
        find_pairs(tmp_path, "toy", 2)


def test_links_to_data_are_followed(tmp_path: Path) -> None:
    write_set(tmp_path / "elsewhere", ["a"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/toy").symlink_to(tmp_path / "elsewhere")
    assert len(find_pairs(tmp_path / "data", "toy", 2)) == 1


def test_surplus_rows_below_the_scale_are_accepted_and_cropped(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a"], scale=3, size=(41, 62))
    (test_set,) = load_test_sets(
        make_config({"data_path": str(tmp_path), "eval_sets": ["toy"], "scale": 3, "patch_size": 48})
    )
    name, lr, hr = test_set[0]
    assert (name, lr.shape, hr.shape) == ("a", (13, 20, 3), (39, 60, 3)) and len(test_set) == 1


def _misfit(kind: str, root: Path) -> str:
    """Damages the set in ``root`` and returns what the error must name."""
    hr, lr = root / "HR", root / "LR_bicubic/X2"
    rng = np.random.default_rng(1)

    def noise(height: int, width: int) -> np.ndarray:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    if kind == "off by one":
        save_image(lr / "bx2.png", noise(21, 30))
        return r"bx2\.png is 30x21 but .*b\.png is 60x40: expected 30x20"
    if kind == "a surplus of a whole scale":
        save_image(hr / "b.png", noise(42, 60))
        return r"b\.png is 60x42"
    if kind == "transposed":
        save_image(lr / "bx2.png", noise(30, 20))
        return r"bx2\.png.*height and width look swapped"
    if kind == "swapped":
        hr.rename(root / "t")
        lr.rename(hr)
        (root / "t").rename(lr)
        for path in hr.iterdir():
            path.rename(hr / path.name.replace("x2", ""))
        return r"a\.png is 60x40.*folders look swapped.*3 such pairs: a, b, c"
    if kind == "wrong scale":
        save_image(lr / "bx2.png", noise(10, 15))
        return r"bx2\.png.*looks like an x4 pair"
    if kind == "HR in the LR folder":
        shutil.copy(hr / "b.png", lr / "bx2.png")
        return r"bx2\.png.*seems to hold HR"
    if kind == "not an image":
        (lr / "bx2.png").write_bytes(b"nothing")
        return r"bx2\.png: not a readable image"
    if kind == "two of one name":
        save_image(hr / "b.jpg", noise(40, 60))
        return r"HR: b\.(png|jpg) and b\.(png|jpg) have the same name"
    if kind == "missing":
        (lr / "bx2.png").unlink()
        return r"1 HR images have no LR image in .*X2: b "
    if kind == "extra":
        (hr / "b.png").unlink()
        return r"1 LR images have no HR image in .*HR: bx2"
    if kind == "suffix of another scale":
        (lr / "bx2.png").rename(lr / "bx3.png")
        return r"no LR image.*: b; .*no HR image.*: bx3"
    for path in [*lr.iterdir()]:  # "empty folder"
        path.unlink()
    (lr / ".DS_Store").write_bytes(b"junk")
    return r"LR_bicubic/X2: holds no images"


CODES = {
    "missing": 66, "extra": 66, "suffix of another scale": 66, "empty folder": 66,
    "off by one": 65, "a surplus of a whole scale": 65, "transposed": 65, "swapped": 65, "wrong scale": 65,
    "HR in the LR folder": 65, "not an image": 65, "two of one name": 65,
}  # fmt: skip


@pytest.mark.parametrize("use", ["training", "test"])
@pytest.mark.parametrize("kind", CODES)
def test_a_misfit_is_named_with_its_exit_code(tmp_path: Path, kind: str, use: str) -> None:
    write_set(tmp_path / "toy", ["a", "b", "c"])
    expected = _misfit(kind, tmp_path / "toy")
    with pytest.raises(SSIUError, match=expected) as caught:
        if use == "training":
            find_pairs(tmp_path, "toy", 2)
        else:
            load_test_sets(make_config({**USE_TOY, "data_path": str(tmp_path)}))
    assert caught.value.exit_code == CODES[kind] and "\n" not in str(caught.value)


def test_unknown_sets_say_where_was_looked_and_what_is_there(tmp_path: Path) -> None:
    write_set(tmp_path / "benchmark/Set5", ["a"])
    with pytest.raises(MissingInputError, match=rf"'train'.*{tmp_path}.*sets found: Set5"):
        find_pairs(tmp_path, "train", 2)
    with pytest.raises(MissingInputError, match=r"data_path .*/absent: no such folder"):
        find_pairs(tmp_path / "absent", "train", 2)


def test_missing_test_sets_are_all_named_with_the_key_without_them(tmp_path: Path) -> None:
    write_set(tmp_path / "benchmark/Set5", ["a"])
    config = make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["Set5", "Urban100", "Manga109"]})
    with pytest.raises(MissingInputError) as caught:
        load_test_sets(config)
    assert "Urban100" in str(caught.value) and "Manga109" in str(caught.value)
    assert "add 'eval_sets=[Set5]' to the command" in str(caught.value)
    assert f"python -m ssiu download benchmark --to {tmp_path}" in str(caught.value)
    assert load_test_sets(make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": []})) == []


def test_a_name_that_no_set_has_is_a_config_error(tmp_path: Path) -> None:
    write_set(tmp_path / "benchmark/Set5", ["a"])
    with pytest.raises(ConfigError, match=r"eval_sets.*Set55.*known: .*Set5"):
        load_test_sets(make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["Set55"]}))
    (test_set,) = load_test_sets(make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": ["set5"]}))
    assert test_set.name == "Set5"


def test_a_set_name_cannot_leave_the_data_folder(tmp_path: Path) -> None:
    write_set(tmp_path / "secret", ["a"])
    (tmp_path / "data").mkdir()
    with pytest.raises(MissingInputError):
        find_pairs(tmp_path / "data", "../secret", 2)


@pytest.mark.full
def test_headers_of_6900_images_are_checked_in_seconds(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a"])
    for i in range(3450):
        shutil.copy(tmp_path / "toy/HR/a.png", tmp_path / f"toy/HR/{i:04}.png")
        shutil.copy(tmp_path / "toy/LR_bicubic/X2/ax2.png", tmp_path / f"toy/LR_bicubic/X2/{i:04}x2.png")
    (tmp_path / "toy/LR_bicubic/X2/1234x2.png").unlink()
    start = time.perf_counter()
    with pytest.raises(MissingInputError, match="1234"):
        find_pairs(tmp_path, "toy", 2)
    (tmp_path / "toy/HR/1234.png").unlink()
    assert len(find_pairs(tmp_path, "toy", 2)) == 3450
    assert time.perf_counter() - start < 5

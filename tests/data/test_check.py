"""check_data: good sets pass, the usual wrong copies are told by name, planted leaks are found."""

import os
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from toy_sets import write_set

from ssiu.cli import check as check_command
from ssiu.cli import prepare as prepare_command
from ssiu.data.cache import ImageCache, Source
from ssiu.data.check import FolderReport, check_cache, check_set, find_sets
from ssiu.data.leaks import find_leaks
from ssiu.data.pairs import find_pairs
from ssiu.data.prepare import make_pairs
from ssiu.errors import BadInputError, MissingInputError
from ssiu.images.bicubic import imresize, make_lr
from ssiu.images.io import read_rgb, save_image

ROOT = Path(__file__).parents[2]


def check_root(root: Path) -> list[FolderReport]:
    data_path, names = find_sets(root)
    return [report for name in names for report in check_set(data_path, name)]


def problems(root: Path) -> list[str]:
    return [str(problem) for report in check_root(root) for problem in report.problems]


def test_a_good_set_has_no_problem(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a", "b"])
    hr, lr = check_root(tmp_path)
    assert (hr.part, hr.images, lr.part, lr.images) == ("HR", 2, "x2", 2)
    assert lr.values == 2 * 20 * 30 * 3 and lr.differing == 0 and not hr.problems + lr.problems
    assert [report.part for report in check_root(tmp_path / "toy")] == ["HR", "x2"]


def test_a_set_is_found_whatever_the_case_of_its_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_set(tmp_path / "benchmark/Toy", ["a"])
    write_set(tmp_path / "benchmark/Cropped", ["a"])
    (tmp_path / "benchmark/Cropped/HR").rename(tmp_path / "benchmark/Cropped/GTmod12")
    for asked, name in (("toy", "Toy"), ("TOY", "Toy"), ("cropped", "Cropped mod12"), ("Cropped mod12",) * 2):
        check_command.main([str(tmp_path / "benchmark" / asked)])
        assert name in capsys.readouterr().out
    with pytest.raises(MissingInputError, match="no data set here"):
        check_command.main([str(tmp_path / "benchmark/other")])


def _pillow(hr: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(hr).resize((30, 20), Image.Resampling.BICUBIC))


def _opencv(hr: np.ndarray) -> np.ndarray:
    return cv2.resize(hr, (30, 20), interpolation=cv2.INTER_CUBIC)


def _one_value(hr: np.ndarray) -> np.ndarray:
    lr = make_lr(hr, 2)
    lr[3, 4, 1] ^= 1
    return lr


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_pillow, r"made with Pillow's bicubic"),
        (_opencv, r"made with OpenCV's cubic"),
        (_one_value, r"1 of 3,600 LR val"),
    ],
)
def test_lr_of_another_kernel_is_found_and_named(tmp_path: Path, make, expected: str) -> None:
    write_set(tmp_path / "toy", ["a", "b"])
    save_image(tmp_path / "toy/LR_bicubic/X2/bx2.png", make(read_rgb(tmp_path / "toy/HR/b.png")))
    (problem,) = problems(tmp_path)
    assert expected in problem and "first in b" in problem and "python -m ssiu prepare" in problem


@pytest.mark.parametrize("layout", ["HR", "DIV2K_train_HR", "GTmod12"])
@pytest.mark.parametrize("suffix", ["x2", ""])
def test_the_command_that_check_names_mends_the_set_in_any_layout(tmp_path: Path, layout: str, suffix: str) -> None:
    root = tmp_path / "my data/DIV2K"
    write_set(root, ["a", "b"])
    for name in "ab":
        lr = _pillow(read_rgb(root / f"HR/{name}.png"))
        (root / f"LR_bicubic/X2/{name}x2.png").unlink()
        save_image(root / f"LR_bicubic/X2/{name}{suffix}.png", lr)
    (root / "HR").rename(root / layout)
    if layout == "DIV2K_train_HR":
        (root / "LR_bicubic").rename(root / "DIV2K_train_LR_bicubic")
    elif layout == "GTmod12":
        (root / "LR_bicubic/X2").rename(root / "LRbicx2")
        (root / "LR_bicubic").rmdir()
    folders = sorted(path.name for path in root.iterdir())
    (problem,) = [text for text in problems(tmp_path / "my data") if "LR values differ" in text]
    folder, command = re.search(r"move (.*) away, then: python -m ssiu (prepare .*)$", problem).groups()
    shutil.rmtree(folder)
    prepare_command.main(shlex.split(command)[1:])
    assert sorted(path.name for path in root.iterdir()) == folders
    assert [report.differing for report in check_root(root) if report.part == "x2"] == [0]
    assert {pair.name for pair in find_pairs(tmp_path / "my data", "DIV2K", 2)} == {"a", "b"}


def test_damage_and_misfits_are_all_listed(tmp_path: Path) -> None:
    write_set(tmp_path / "one", ["a", "b", "c"])
    path = tmp_path / "one/HR/b.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torn = tmp_path / "one/LR_bicubic/X2/cx2.png"
    torn.write_bytes(torn.read_bytes()[:-5])
    write_set(tmp_path / "two", ["a", "b"])
    (tmp_path / "two/LR_bicubic/X2/ax2.png").unlink()
    write_set(tmp_path / "three", ["a"])
    save_image(tmp_path / "three/LR_bicubic/X2/ax2.png", np.zeros((21, 30, 3), np.uint8))
    found = problems(tmp_path)
    assert len(found) == 4
    for text in ("b.png: damaged PNG", "cx2.png: damaged PNG", "no LR image", "is 30x21 but"):
        assert sum(text in problem for problem in found) == 1, text


def test_counts_of_known_sets_are_checked(tmp_path: Path) -> None:
    write_set(tmp_path / "benchmark/Manga109", ["a"])
    write_set(tmp_path / "plain", ["0001", "0801", "0901"])
    (tmp_path / "DF2K").mkdir()
    (tmp_path / "plain/HR").rename(tmp_path / "DF2K/DF2K_train_HR")
    (tmp_path / "plain/LR_bicubic").rename(tmp_path / "DF2K/DF2K_train_LR_bicubic")
    df2k, manga = problems(tmp_path)
    assert "3448 missing" in df2k and "1 that do not belong: 0801 (DIV2K's validation" in df2k
    assert "1 images, expected 109" in manga


def test_no_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no data set here"):
        check_root(tmp_path)


def test_the_published_test_sets_pass_and_are_recognised(shared: Path) -> None:
    reports = check_root(shared / "data/benchmark/Set5") + check_root(shared / "data/benchmark/Set14")
    assert [report.digest for report in reports] == ["same"] * 8
    assert not any(report.problems or report.differing for report in reports)
    assert sum(report.values for report in reports if report.part == "x2") == 3 * (141_864 + 805_337)


def test_mod12_copies_and_half_size_copies_are_recognised(shared: Path, tmp_path: Path, monkeypatch) -> None:
    for kind in ("mod12", "half"):
        (tmp_path / kind).mkdir()
        for path in (shared / "data/benchmark/Set5/HR").iterdir():
            hr = read_rgb(path)
            cropped = hr[: hr.shape[0] // 12 * 12, : hr.shape[1] // 12 * 12]
            save_image(tmp_path / kind / path.name, cropped if kind == "mod12" else make_lr(hr, 2))
        make_pairs(tmp_path / kind, tmp_path / f"data_{kind}/benchmark/Set5", [2])
    assert any("mod12" in problem for problem in problems(tmp_path / "data_mod12"))
    assert any("half the size" in problem for problem in problems(tmp_path / "data_half"))


def test_a_mod12_copy_in_its_own_layout_passes(shared: Path, tmp_path: Path) -> None:
    for path in (shared / "data/benchmark/Set5/HR").iterdir():
        hr = read_rgb(path)
        hr = hr[: hr.shape[0] // 12 * 12, : hr.shape[1] // 12 * 12]
        for folder, image in (("GTmod12", hr), *((f"LRbicx{s}", make_lr(hr, s)) for s in (2, 3, 4))):
            (tmp_path / "Set5" / folder).mkdir(parents=True, exist_ok=True)
            save_image(tmp_path / "Set5" / folder / path.name, np.ascontiguousarray(image))
    for root in (tmp_path, tmp_path / "Set5"):
        reports = check_root(root)
        assert [(report.set_name, report.part) for report in reports[:2]] == [
            ("Set5 mod12", "HR"),
            ("Set5 mod12", "x2"),
        ]
        assert [report.digest for report in reports] == ["same"] * 4
        assert not any(report.problems or report.differing for report in reports)
    lr = tmp_path / "Set5/LRbicx4/baby.png"
    image = read_rgb(lr).copy()
    image[0, 0, 0] ^= 1
    save_image(lr, image)
    assert "Set5 mod12 x4: 1 of" in problems(tmp_path)[0]


def test_a_renamed_copy_is_not_the_usual_one(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "data/benchmark/Set5", tmp_path / "Set5")
    hr, lr = tmp_path / "Set5/HR", tmp_path / "Set5/LR_bicubic"
    for path in [hr / "bird.png", *(lr / f"X{s}/birdx{s}.png" for s in (2, 3, 4))]:
        path.parent.chmod(0o755)
        path.rename(path.with_name(path.name.replace("bird", "budgie")))
    reports = check_root(tmp_path)
    assert [report.digest for report in reports] == ["differs"] * 4 and all(report.problems for report in reports)


def test_deep_finds_what_size_time_and_inode_cannot_show(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", ["a", "b", "c"])
    cache = ImageCache(tmp_path / "cache")
    sources = [*(tmp_path / "toy/HR").iterdir(), *(tmp_path / "toy/LR_bicubic/X2").iterdir()]
    cached = dict(zip(sources, cache.prepare([Source(path) for path in sources]), strict=True))
    assert check_cache(tmp_path, cache) == (6, [])
    edited = tmp_path / "toy/HR/a.png"
    status = edited.stat()
    content = bytearray(edited.read_bytes())
    content[-30] ^= 1
    with edited.open("r+b") as file:
        file.write(content)
    os.utime(edited, ns=(status.st_atime_ns, status.st_mtime_ns))
    damaged = cached[tmp_path / "toy/HR/b.png"].path
    content = bytearray(damaged.read_bytes())
    content[500] ^= 1
    damaged.write_bytes(content)
    compared, found = check_cache(tmp_path, cache)
    assert compared == 6 and len(found) == 2
    assert "older content" in str(found[0]) and "a.png" in str(found[0]) and "damaged" in str(found[1])


@pytest.fixture(scope="module")
def plants(shared: Path, tmp_path_factory) -> Path:
    """Images that show test images: a crop, a half-size copy, a JPEG copy, a larger crop and one with a border."""
    folder = tmp_path_factory.mktemp("plants")
    sets = shared / "data/benchmark"
    save_image(folder / "crop.png", read_rgb(sets / "Set14/HR/barbara.png")[100:300, 200:420])
    save_image(folder / "half.png", make_lr(read_rgb(sets / "Set5/HR/head.png"), 2))
    save_image(folder / "copy.jpg", read_rgb(sets / "Set5/HR/bird.png"))
    save_image(folder / "larger.png", imresize(read_rgb(sets / "Set14/HR/zebra.png")[50:250, 100:350], 1.7))
    inside = np.full((500, 600, 3), 128, np.uint8)
    inside[40:384, 200:428] = read_rgb(sets / "Set5/HR/woman.png")
    save_image(folder / "inside.png", inside)
    return folder


SHOWN = {"crop.png": "barbara", "half.png": "head", "copy.jpg": "bird", "larger.png": "zebra", "inside.png": "woman"}


def test_planted_leaks_are_found_and_strangers_are_not(shared: Path, plants: Path) -> None:
    tests = [*(shared / "data/benchmark/Set5/HR").iterdir()]
    tests += [shared / f"data/benchmark/Set14/HR/{name}.png" for name in ("barbara", "zebra")]
    strangers = sorted((shared / "data/train_photos/HR").iterdir())[::160]
    leaks, unreadable = find_leaks([*strangers, *plants.iterdir()], tests)
    assert not unreadable
    assert {leak.train.name: leak.test.stem for leak in leaks} == SHOWN and len(leaks) == len(SHOWN)
    by_name = {leak.train.name: leak for leak in leaks}
    assert by_name["half.png"].scale == pytest.approx(0.5, abs=0.01)
    assert by_name["crop.png"].covered == pytest.approx(200 * 220 / (720 * 576), abs=0.02)


@pytest.mark.parametrize("where", ["train", "test", "both"])
def test_images_without_any_key_point_are_searched_too(tmp_path: Path, where: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    sky = np.repeat(np.linspace(40, 200, 80, dtype=np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
    for name, image in (("noise", noise), ("sky", sky), ("flat", np.full_like(sky, 90))):
        save_image(tmp_path / f"{name}.png", image)
    plain = [tmp_path / "sky.png", tmp_path / "flat.png"]
    train = plain if where != "test" else [tmp_path / "noise.png"]
    test = plain if where != "train" else [tmp_path / "noise.png"]
    leaks, unreadable = find_leaks(train, test)
    assert not unreadable
    assert [(leak.train.name, leak.test.name) for leak in leaks] == [("sky.png", "sky.png")] * (where == "both")


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_an_image_of_one_row_or_column_is_searched_too(tmp_path: Path, plants: Path, size: tuple[int, int]) -> None:
    save_image(tmp_path / "line.png", np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    line, crop = tmp_path / "line.png", plants / "crop.png"
    leaks, unreadable = find_leaks([line, crop], [crop, line])
    assert not unreadable and {(leak.train, leak.test) for leak in leaks} == {(line, line), (crop, crop)}


@pytest.mark.full
def test_no_training_photo_shows_a_test_image(shared: Path, plants: Path) -> None:
    tests = [path for name in ("Set5", "Set14", "B100") for path in (shared / f"data/benchmark/{name}/HR").iterdir()]
    leaks, _ = find_leaks([*(shared / "data/train_photos/HR").iterdir(), *plants.iterdir()], tests)
    assert {leak.train.name for leak in leaks} == set(SHOWN)


def test_the_command_line_prints_a_table_and_an_exit_code(tmp_path: Path, capsys) -> None:
    write_set(tmp_path / "toy", ["a", "b"])
    check_command.main([str(tmp_path), "--deep"])
    printed = capsys.readouterr().out
    assert "0 of 3,600" in printed and "0 images compared" in printed
    with pytest.raises(MissingInputError, match=r"no set that .*toy/HR could be compared with"):
        check_command.main([str(tmp_path), "--leaks", str(tmp_path / "toy/HR")])
    write_set(tmp_path / "train", ["a", "b"])
    write_set(tmp_path / "DIV2K", ["0001"], seed=1)
    with pytest.raises(BadInputError, match=r"2 images show test images: a\.png, b\.png"):
        check_command.main([str(tmp_path / "toy"), "--leaks", str(tmp_path / "train/HR")])
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "DIV2K")
    (tmp_path / "toy/LR_bicubic/X2/ax2.png").unlink()
    with pytest.raises(MissingInputError, match=r"1 problem, listed above; the first: 1 HR images have no LR"):
        check_command.main([str(tmp_path)])
    assert "1 HR images have no LR" in capsys.readouterr().out
    with pytest.raises(MissingInputError):
        check_command.main([str(tmp_path / "absent")])


@pytest.mark.parametrize("others", [["set5", "mine_val"], ["mine_val"]])
def test_leaks_are_sought_in_every_set_but_the_training_sets(others: list[str], tmp_path: Path, capsys) -> None:
    write_set(tmp_path / "mine", ["a", "b"])
    for seed, name in enumerate(("div2k", "DF2K", *others[:-1]), start=1):
        write_set(tmp_path / name, ["c", "d"], seed=seed)
    write_set(tmp_path / "mine_val", ["e"])
    command = [str(tmp_path), "--leaks", str(tmp_path / "mine/HR")]
    with pytest.raises(BadInputError):
        check_command.main(command)
    printed = capsys.readouterr().out
    assert f"show one of {2 * len(others) - 1} test images" in printed
    assert "mine/HR: 1 images show test images: a.png\n" in printed
    save_image(tmp_path / "mine_val/HR/e.png", np.random.default_rng(9).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    make_pairs(tmp_path / "mine_val/HR", tmp_path / "mine_val", [2])
    shutil.rmtree(tmp_path / "DF2K")
    shutil.rmtree(tmp_path / "div2k")
    shutil.rmtree(tmp_path / "set5", ignore_errors=True)
    check_command.main(command)
    assert "No training image shows any of 1 test image." in capsys.readouterr().out


def test_a_set_that_another_one_hides_is_not_reported_as_that_one(tmp_path: Path) -> None:
    write_set(tmp_path / "benchmark/Toy", ["a"])
    for name in ("Toy", "Other"):
        write_set(tmp_path / name, ["a", "b"])
    for name in ("Toy", "toy"):
        with pytest.raises(BadInputError, match=r"/Toy/HR is hidden by .*benchmark/Toy/HR.*: remove or rename one"):
            check_command.main([str(tmp_path / name)])
    check_command.main([str(tmp_path / "Other")])
    (tmp_path / "benchmark").rename(tmp_path / "elsewhere")
    assert [report.images for report in check_root(tmp_path / "Toy")] == [2, 2]


def test_other_errors_do_not_keep_the_problems_from_being_listed(tmp_path: Path, capsys) -> None:
    write_set(tmp_path / "toy", ["a", "b"])
    write_set(tmp_path / "train", ["c"], seed=3)
    (tmp_path / "toy/LR_bicubic/X3").mkdir()
    (tmp_path / "toy/HR/bad.png").symlink_to("absent.png")
    with pytest.raises(MissingInputError, match=r"no such folder"):
        check_command.main([str(tmp_path), "--leaks", str(tmp_path / "absent")])
    assert not capsys.readouterr().out, "this is said before anything is decoded"
    with pytest.raises(MissingInputError, match="problems, listed above"):
        check_command.main([str(tmp_path), "--deep", "--leaks", str(tmp_path / "train/HR")])
    printed = capsys.readouterr().out
    for text in ("no LR image", "X3: holds no images", "0 images compared", "No training image shows any of 3 test"):
        assert text in printed


def test_every_problem_is_one_line_of_the_list(tmp_path: Path, capsys) -> None:
    write_set(tmp_path / "toy", ["a", "b"])
    (tmp_path / "toy/HR/b.png").rename(tmp_path / "toy/HR/b\n- none.png")
    with pytest.raises(MissingInputError):
        check_command.main([str(tmp_path)])
    assert sum(line.startswith("- ") for line in capsys.readouterr().out.splitlines()) == 1


def test_names_that_are_no_utf8_are_checked(tmp_path: Path) -> None:
    write_set(tmp_path / "Set5", ["a"])
    for path in (*(tmp_path / "Set5").rglob("a.png"), *(tmp_path / "Set5").rglob("ax2.png")):
        path.rename(path.with_name(path.name.replace("a", "\udcff", 1)))
    assert "1 images, expected 5" in problems(tmp_path)[0]

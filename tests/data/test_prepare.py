"""prepare_data: exact LR images, restartable, DF2K laid out from its downloads."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from faults import ends_within, in_child, limit_file_size
from toy_sets import shorten_df2k

from ssiu.cli import prepare as prepare_command
from ssiu.cli.console import run_cli
from ssiu.data import prepare
from ssiu.data.pairs import find_pairs
from ssiu.data.prepare import make_df2k, make_pairs, make_split
from ssiu.errors import BadInputError, MissingInputError, OutputError, SaveError
from ssiu.images.bicubic import imresize, make_lr
from ssiu.images.io import read_rgb, save_image

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    folder.mkdir()
    for name, size in (("a.png", (25, 38)), ("b é.webp", (24, 36))):
        save_image(folder / name, RNG.integers(0, 256, (*size, 3), dtype=np.uint8))
    save_image(folder / "gray.bmp", RNG.integers(0, 256, (24, 24), dtype=np.uint8))
    return folder


def test_lr_images_are_imresize_of_the_cropped_hr(tmp_path: Path, photos: Path) -> None:
    assert make_pairs(photos, tmp_path / "data/set", [2, 3, 4]) == 9
    for scale in (2, 3, 4):
        pairs = find_pairs(tmp_path / "data", "set", scale)
        assert [pair.name for pair in pairs] == ["a", "b é", "gray"]
        for pair in pairs:
            height, width = (side // scale * scale for side in pair.hr_size)
            expected = imresize(np.ascontiguousarray(read_rgb(pair.hr)[:height, :width]), 1 / scale)
            np.testing.assert_array_equal(read_rgb(pair.lr), expected)
            assert pair.hr.is_symlink() and pair.hr.resolve().parent == photos


def test_repeating_makes_only_what_is_missing_old_or_wrong(tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "set"
    make_pairs(photos, output, [2, 4])
    assert make_pairs(photos, output, [2, 4]) == 0
    (output / "LR_bicubic/X2/ax2.png").unlink()
    save_image(output / "LR_bicubic/X4/ax4.png", np.zeros((9, 9, 3), np.uint8))
    time.sleep(0.01)
    (photos / "gray.bmp").touch()
    assert make_pairs(photos, output, [2, 4]) == 4
    assert make_pairs(output / "HR", output, [2, 3, 4]) == 3


def test_lr_images_without_the_scale_in_their_names_are_not_made_twice(tmp_path: Path, photos: Path) -> None:
    make_pairs(photos, tmp_path / "set", [2])
    for path in (tmp_path / "set/LR_bicubic/X2").iterdir():
        path.rename(path.with_stem(path.stem.removesuffix("x2")))
    assert make_pairs(photos, tmp_path / "set", [2]) == 0
    time.sleep(0.01)
    (photos / "a.png").touch()
    assert make_pairs(photos, tmp_path / "set", [2]) == 1
    assert [pair.lr.name for pair in find_pairs(tmp_path, "set", 2)] == ["a.png", "b é.png", "gray.png"]


def test_lr_of_an_image_that_another_replaced_is_made_again_whatever_its_time(tmp_path: Path, photos: Path) -> None:
    make_pairs(photos, tmp_path / "set", [2])
    save_image(tmp_path / "other.png", RNG.integers(0, 256, (25, 38, 3), dtype=np.uint8))
    os.utime(tmp_path / "other.png", (1e9, 1e9))
    time.sleep(0.01)
    (tmp_path / "other.png").replace(photos / "a.png")  # as mv, cp -p and unzip do
    assert make_pairs(photos, tmp_path / "set", [2]) == 1
    np.testing.assert_array_equal(
        read_rgb(tmp_path / "set/LR_bicubic/X2/ax2.png"), make_lr(read_rgb(photos / "a.png"), 2)
    )


def test_copies_are_files_of_their_own(tmp_path: Path, photos: Path) -> None:
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    copies = sorted((tmp_path / "set/HR").iterdir())
    assert [copy.name for copy in copies] == ["a.png", "b é.webp", "gray.bmp"]
    assert not any(copy.is_symlink() for copy in copies)
    assert copies[0].read_bytes() == (photos / "a.png").read_bytes()
    assert make_pairs(photos, tmp_path / "set", [2]) == 0, "a copy of the image is as good as a link"


def test_links_become_copies_where_copies_are_asked_for(tmp_path: Path, photos: Path) -> None:
    make_pairs(photos, tmp_path / "set", [2])
    assert make_pairs(photos, tmp_path / "set", [2], copy=True) == 0
    content = (photos / "a.png").read_bytes()
    shutil.rmtree(photos)
    assert (tmp_path / "set/HR/a.png").read_bytes() == content and len(find_pairs(tmp_path, "set", 2)) == 3


def test_a_full_disk_while_copying_is_a_save_error_and_leaves_nothing(tmp_path: Path, photos: Path) -> None:
    def run() -> None:
        limit_file_size(1000, kill=False)
        make_pairs(photos, tmp_path / "set", [2], copy=True)

    code, message = in_child(run)
    assert code == 74 and "SaveError: cannot write" in message and "a.png" in message
    assert not list((tmp_path / "set/HR").iterdir())


@pytest.mark.parametrize("seconds", [-100, 0, 100])
def test_a_copy_of_what_the_image_was_is_never_paired_with_new_lr(tmp_path: Path, photos: Path, seconds: int) -> None:
    def changed(value: int) -> None:
        save_image(photos / "gray.bmp", np.full((24, 24), value, np.uint8))  # always the same size

    changed(1)
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    changed(2)
    time_ns = (tmp_path / "set/HR/gray.bmp").stat().st_mtime_ns + (seconds or 0.001) * 10**9
    os.utime(photos / "gray.bmp", ns=(int(time_ns), int(time_ns)))
    with pytest.raises(OutputError, match=r"set/HR/gray\.bmp exists and is not .* as it is now; remove it"):
        make_pairs(photos, tmp_path / "set", [2], copy=True)
    for pair in find_pairs(tmp_path, "set", 2):
        np.testing.assert_array_equal(read_rgb(pair.lr), make_lr(read_rgb(pair.hr), 2))
    (tmp_path / "set/HR/gray.bmp").unlink()
    (tmp_path / "set/LR_bicubic/X2/grayx2.png").unlink()
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    assert read_rgb(tmp_path / "set/LR_bicubic/X2/grayx2.png").max() == 2


def test_copies_of_an_older_version_without_times_are_known_by_content(tmp_path: Path, photos: Path) -> None:
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    for copy in (tmp_path / "set/HR").iterdir():
        os.utime(copy)
    assert make_pairs(photos, tmp_path / "set", [2], copy=True) == 0


@pytest.mark.parametrize("copy", [False, True])
def test_names_near_255_bytes(tmp_path: Path, photos: Path, copy: bool) -> None:
    (photos / "a.png").rename(photos / f"{'ü' * 124}.png")  # LR: 254 bytes
    (photos / "gray.bmp").rename(photos / f"{'z' * 251}.bmp")  # LR: 257 bytes, which no file system takes
    with pytest.raises(OutputError, match=r"zzx2\.png: File name too long; choose another name"):
        make_pairs(photos, tmp_path / "set", [2], copy=copy)
    assert len(list((tmp_path / "set/LR_bicubic/X2").iterdir())) == 2
    assert len(list((tmp_path / "set/HR").iterdir())) == 3


@pytest.mark.parametrize("copy", [False, True])
def test_links_in_a_circle_are_named_after_the_others_are_done(tmp_path: Path, photos: Path, copy: bool) -> None:
    (photos / "loop.png").symlink_to("loop.png")
    with pytest.raises(MissingInputError, match=r"loop\.png: cannot be read \(Too many levels"):
        make_pairs(photos, tmp_path / "set", [2], copy=copy)
    (photos / "loop.png").unlink()
    assert make_pairs(photos, tmp_path / "set", [2], copy=copy) == 0
    assert len(find_pairs(tmp_path, "set", 2)) == 3


def test_a_disk_without_room_for_a_link_is_full(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_inode(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "symlink_to", no_inode)
    with pytest.raises(SaveError, match=r"HR/a\.png: No space left on device; free some space"):
        make_pairs(photos, tmp_path / "set", [2])


@pytest.mark.parametrize("copy", [False, True])
def test_a_pipe_among_the_images_is_named_after_the_others_are_done(tmp_path: Path, photos: Path, copy: bool) -> None:
    os.mkfifo(photos / "pipe.png")
    with ends_within(60), pytest.raises(BadInputError, match=r"pipe\.png: is a pipe or device"):
        make_pairs(photos, tmp_path / "set", [2], copy=copy)
    assert len(list((tmp_path / "set/LR_bicubic/X2").iterdir())) == 3


@pytest.mark.parametrize("copy", [False, True])
def test_photographs_in_folders_keep_them(tmp_path: Path, photos: Path, copy: bool) -> None:
    (photos / "of 2024.png/May").mkdir(parents=True)
    shutil.move(photos / "a.png", photos / "of 2024.png/May/a.png")
    assert make_pairs(photos, tmp_path / "set", [2, 4], copy=copy) == 6
    assert make_pairs(photos, tmp_path / "set", [2, 4], copy=copy) == 0
    assert (tmp_path / "set/LR_bicubic/X4/of 2024.png/May/ax4.png").is_file()
    assert [pair.name for pair in find_pairs(tmp_path, "set", 4)] == ["b é", "gray", "of 2024.png/May/a"]
    shutil.move(photos / "of 2024.png/May/a.png", photos / "of 2024.png/b.png")
    if not copy:  # links to what has moved go with their LR images
        assert make_pairs(photos, tmp_path / "set", [2, 4]) == 2
        assert [pair.name for pair in find_pairs(tmp_path, "set", 4)] == ["b é", "gray", "of 2024.png/b"]


def test_a_set_is_not_made_among_the_photographs_which_would_then_be_its_images_too(tmp_path, photos: Path) -> None:
    for output in (photos, photos / "set"):
        with pytest.raises(OutputError, match=r"is inside .*my photos, whose folders are read, too; choose another"):
            make_pairs(photos, output, [2])
    (tmp_path / "linked").symlink_to(photos)
    with pytest.raises(OutputError, match="choose another --output"):
        make_split(tmp_path / "linked", photos / "set", [2], 1)


def test_an_exception_nobody_thought_of_does_not_stop_the_others(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_on_gray(hr: np.ndarray, scale: int) -> np.ndarray:
        if hr.shape[0] == hr.shape[1]:
            raise RuntimeError("nobody thought of this")
        return make_lr(hr, scale)

    monkeypatch.setattr(prepare, "make_lr", fails_on_gray)
    with pytest.raises(BadInputError, match=r"gray\.bmp: RuntimeError: nobody thought of this"):
        make_pairs(photos, tmp_path / "set", [2])
    assert len(list((tmp_path / "set/LR_bicubic/X2").iterdir())) == 2


def test_what_a_killed_run_left_is_removed(tmp_path: Path, photos: Path) -> None:
    def killed() -> None:
        limit_file_size(100, kill=True)
        make_pairs(photos, tmp_path / "set", [2], copy=True)

    assert in_child(killed)[0] == -signal.SIGXFSZ
    assert len(list((tmp_path / "set/HR").glob(".ssiu-*"))) == 1
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    assert len(list((tmp_path / "set/HR").iterdir())) == 3


def test_a_damaged_image_is_named_after_the_others_are_done(tmp_path: Path, photos: Path) -> None:
    content = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(content[:-30])
    save_image(photos / "tiny.png", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(BadInputError, match=r"a\.png: damaged.*2 in all; also .*tiny\.png"):
        make_pairs(photos, tmp_path / "set", [2, 4])
    assert len(list((tmp_path / "set").rglob("LR_bicubic/*/*.png"))) == 4


def test_nothing_of_the_users_is_overwritten(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "set/HR").mkdir(parents=True)
    save_image(tmp_path / "set/HR/a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(OutputError, match=r"a\.png exists"):
        make_pairs(photos, tmp_path / "set", [2])
    (tmp_path / "other/LR_bicubic/X2").mkdir(parents=True)
    (tmp_path / "sentinel").write_bytes(b"mine")
    (tmp_path / "other/LR_bicubic/X2/ax2.png").symlink_to(tmp_path / "sentinel")
    with pytest.raises(OutputError, match="symbolic link"):
        make_pairs(photos, tmp_path / "other", [2])
    assert (tmp_path / "sentinel").read_bytes() == b"mine"


def test_two_sources_of_one_name_are_refused(tmp_path: Path, photos: Path) -> None:
    shutil.copy(photos / "gray.bmp", photos / "a.bmp")
    with pytest.raises(BadInputError, match="have the same name"):
        make_pairs(photos, tmp_path / "set", [2])


def test_df2k_is_laid_out_from_the_two_downloads(tmp_path: Path, monkeypatch) -> None:
    shorten_df2k(monkeypatch)
    for name in ("DIV2K/DIV2K_train_HR/0001", "DIV2K/DIV2K_train_HR/0002", "DIV2K/DIV2K_train_HR/0801"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(path, RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    for name in ("000001", "000002"):
        path = tmp_path / f"Flickr/Flickr2K/Flickr2K_HR/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(path, RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    assert make_df2k(tmp_path / "DIV2K", tmp_path / "Flickr", tmp_path / "data", [2, 4]) == 8
    for scale in (2, 4):
        pairs = find_pairs(tmp_path / "data", "df2k", scale)
        assert [pair.name for pair in pairs] == ["0001", "0002", "0901", "0902"]
    assert pairs[-1].hr.resolve().name == "000002.png"
    (tmp_path / "Flickr/Flickr2K/Flickr2K_HR/000001.png").unlink()
    with pytest.raises(MissingInputError, match=r"Flickr2K.*1 of 2 images are missing: 000001"):
        make_df2k(tmp_path / "DIV2K", tmp_path / "Flickr", tmp_path / "data", [2])
    with pytest.raises(MissingInputError, match="no such folder"):
        make_df2k(tmp_path / "absent", tmp_path / "Flickr", tmp_path / "data", [2])


@pytest.mark.parametrize("change", ["removed", "renamed", "converted"])
def test_what_became_of_an_image_is_made_up_for_by_the_same_command(tmp_path: Path, photos: Path, change: str) -> None:
    (photos / "bad.png").write_bytes((photos / "a.png").read_bytes()[:-30])
    with pytest.raises(BadInputError, match=r"bad\.png: damaged"):
        make_pairs(photos, tmp_path / "set", [2, 3])
    (photos / "bad.png").unlink()
    if change == "renamed":
        (photos / "a.png").rename(photos / "new.png")
    elif change == "converted":
        (photos / "a.png").rename(photos / "a.tif")
        save_image(photos / "a.tif", RNG.integers(0, 256, (25, 38, 3), dtype=np.uint8))
    else:
        (photos / "a.png").unlink()
    make_pairs(photos, tmp_path / "set", [2])
    names = {"removed": [], "renamed": ["new"], "converted": ["a"]}[change] + ["b é", "gray"]
    for pair in find_pairs(tmp_path, "set", 2):
        np.testing.assert_array_equal(read_rgb(pair.lr), make_lr(read_rgb(pair.hr), 2))
    assert [pair.name for pair in find_pairs(tmp_path, "set", 2)] == sorted(names)
    make_pairs(photos, tmp_path / "set", [3])
    assert len(find_pairs(tmp_path, "set", 3)) == len(names)


def test_an_image_of_another_folder_in_the_set_is_named_and_stays(tmp_path: Path, photos: Path) -> None:
    make_pairs(photos, tmp_path / "set", [2], copy=True)
    (photos / "a.png").unlink()
    with pytest.raises(OutputError, match=r"set/HR holds 1 images that are not those of .*my photos: a\.png; remove"):
        make_pairs(photos, tmp_path / "set", [2], copy=True)
    assert len(find_pairs(tmp_path, "set", 2)) == 3


def test_what_is_passed_over_is_said(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture) -> None:
    command = [str(photos), "--output", str(tmp_path / "set"), "--scales", "2"]
    prepare_command.main(command)
    assert "skipped" not in capsys.readouterr().out
    for name in ("a.heic", "b.HEIC", "c.gif", ".hidden.gif", "notes.txt"):
        (photos / name).write_bytes(b"x")
    (photos / "holiday").mkdir()
    prepare_command.main(command)
    assert "skipped 1 .gif, 2 .heic, 1 folder (not read)" in capsys.readouterr().out


def run_script(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ssiu", "prepare", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, **options)


def test_the_command_line_works_and_ends_with_one_line(tmp_path: Path, photos: Path) -> None:
    done = run_script(photos, "--output", "set", "--scales", 2, cwd=tmp_path)
    assert done.returncode == 0 and "3 LR images made" in done.stdout, done.stderr
    assert len(find_pairs(tmp_path, "set", 2)) == 3
    for arguments, code in (
        ([tmp_path / "absent", "--output", tmp_path / "x"], 66),
        (["df2k", "--output", tmp_path / "x"], 78),
        ([photos, "--output", photos / "a.png"], 73),
    ):
        failed = run_script(*arguments)
        assert failed.returncode == code and failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["", "--output", "set"], [".", "--output", ""]])
def test_an_empty_path_is_not_the_current_folder(
    photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(photos)
    with pytest.raises(SystemExit) as ended:
        run_cli(prepare_command.main, arguments)
    assert ended.value.code == 2 and len(list(photos.iterdir())) == 3


@pytest.mark.full
def test_a_killed_run_is_completed_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    for i in range(40):
        save_image(tmp_path / f"hr/{i}.png", RNG.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    command = [sys.executable, "-m", "ssiu", "prepare", "hr", "--output", "set"]
    for wait in (3, 20):
        running = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
        while len(list(tmp_path.glob("set/LR_bicubic/*/*.png"))) < wait and running.poll() is None:
            time.sleep(0.005)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert run_script("hr", "--output", "set", cwd=tmp_path).returncode == 0
    for scale in (2, 3, 4):
        for pair in find_pairs(tmp_path, "set", scale):
            np.testing.assert_array_equal(read_rgb(pair.lr), make_lr(read_rgb(pair.hr), scale))

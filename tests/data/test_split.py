"""prepare --holdout: a training and a validation set of one folder that never share a photograph."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssiu.cli import prepare as prepare_command
from ssiu.data import links as place
from ssiu.data.pairs import find_pairs
from ssiu.data.prepare import make_pairs, make_split
from ssiu.errors import BadInputError, ConfigError, OutputError
from ssiu.images.io import save_image

RNG = np.random.default_rng(0)


def held_names(output: Path) -> tuple[list[str], list[str]]:
    return tuple(
        [pair.name for pair in find_pairs(output.parent, name, 2)] for name in (output.name, f"{output.name}_val")
    )


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(10):
        save_image(folder / f"{index}.png", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return folder


def test_holdout_makes_a_training_and_a_validation_set_that_share_nothing(tmp_path: Path, many: Path) -> None:
    output = tmp_path / "mine"
    assert make_split(many, output, [2, 3], 3).lr_images == 20
    train, validation = held_names(output)
    assert validation == ["1", "5", "8"] and train == ["0", "2", "3", "4", "6", "7", "9"]
    assert make_split(many, output, [2, 3], 3).lr_images == 0, "the second time finds all done"
    save_image(many / "00.png", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    assert make_split(many, output, [2, 3], 3).lr_images == 2, "a photograph that came later is trained on"
    assert held_names(output) == (["0", "00", "2", "3", "4", "6", "7", "9"], validation)


def test_a_split_never_moves_an_image_from_training_to_validation(tmp_path: Path, many: Path) -> None:
    output = tmp_path / "mine"
    make_pairs(many, output, [2])
    with pytest.raises(OutputError, match=r"mine already has images that are to be held out \(1, 5, 8\)"):
        make_split(many, output, [2], 3)
    assert not (tmp_path / "mine_val").exists()
    other = tmp_path / "other"
    make_split(many, other, [2], 3)
    with pytest.raises(OutputError, match=r"holds 3 images already .*, not 2 of these; for a new split remove it and"):
        make_split(many, other, [2], 2)
    for holdout in (0, 10, -1):
        with pytest.raises(ConfigError, match="expected 1 to 9 of the 10 images"):
            make_split(many, tmp_path / "third", [2], holdout)
    for index in range(9):
        (many / f"{index}.png").unlink()
    with pytest.raises(ConfigError, match="one image; at least two are needed"):
        make_split(many, tmp_path / "third", [2], 1)


@pytest.mark.parametrize("copy", [False, True])
def test_held_out_images_stay_so_where_the_command_forgets_holdout(tmp_path: Path, many: Path, copy: bool) -> None:
    output = tmp_path / "mine"
    make_split(many, output, [2], 3, copy)
    with pytest.raises(OutputError, match=r"mine_val holds 3 of these images \(1, 5, 8\), .* add --holdout 3"):
        make_pairs(many, output, [3])
    assert make_split(many, output, [3], 3, copy).lr_images == 10
    assert make_pairs(output / "HR", output, [4]) == 7
    strangers = tmp_path / "strangers"  # other photographs with the same names
    strangers.mkdir()
    for index in range(10):
        save_image(strangers / f"{index}.png", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    shutil.rmtree(output)
    assert make_pairs(strangers, output, [2]) == 10


def test_a_split_is_made_but_for_the_damaged_images_of_both_sets(tmp_path: Path, many: Path) -> None:
    output, whole = tmp_path / "mine", (many / "1.png").read_bytes()
    for index in (1, 2, 5):  # 1 and 5 are held out
        (many / f"{index}.png").write_bytes(whole[:-30])
    with pytest.raises(BadInputError, match=r"1\.png: damaged.* \(3 in all; also .*5\.png, .*2\.png\)$"):
        make_split(many, output, [2], 3)
    for index in (1, 2):
        (many / f"{index}.png").write_bytes(whole)
    (many / "5.png").unlink()
    with pytest.raises(OutputError, match=r"many no longer has 5, held out in .*mine_val; put back"):
        make_split(many, output, [2], 3)
    (many / "5.png").write_bytes(whole)
    assert make_split(many, output, [2], 3).lr_images == 3
    assert [len(names) for names in held_names(output)] == [7, 3]


@pytest.mark.parametrize("copy", [True, False])
def test_a_split_that_was_interrupted_is_completed_by_the_same_command(tmp_path: Path, many: Path, copy: bool) -> None:
    def stopped_at(moment: int) -> None:
        seen = 0

        def profile(frame: Any, event: str, argument: Any) -> None:
            nonlocal seen
            seen += event == "call" and frame.f_code is place.is_placed.__code__
            if seen == moment:
                raise KeyboardInterrupt

        sys.setprofile(profile)
        try:
            make_split(many, output, [2], 3, copy)
        finally:
            sys.setprofile(None)

    make_split(many, tmp_path / "whole", [2], 3)
    for moment in range(1, 11):  # before each of the images is placed
        output = tmp_path / f"stopped{moment}"
        with pytest.raises(KeyboardInterrupt):
            stopped_at(moment)
        make_split(many, output, [2], 3, copy)
        assert held_names(output) == held_names(tmp_path / "whole")
        assert make_split(many, output, [2], 3, copy).lr_images == 0


def test_holdout_from_the_command_line(tmp_path: Path, many: Path, capsys: pytest.CaptureFixture) -> None:
    prepare_command.main([str(many), "--output", str(tmp_path / "mine"), "--scales", "2", "--holdout", "2"])
    printed = capsys.readouterr().out
    assert (
        "10 LR images made in" in printed and f"2 of 10 images are held out in {tmp_path}/mine_val: 2, 7\n" in printed
    )
    assert [len(names) for names in held_names(tmp_path / "mine")] == [8, 2]


TILES = [f"clic25_{photo:02}_{tile}" for photo in range(5) for tile in range(photo + 1)] + ["lone"]


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Photographs cut into one to five tiles, and one that is whole."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name in TILES:
        save_image(folder / f"{name}.png", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return folder


@pytest.mark.parametrize("pattern", [r"clic25_\d+", r"(clic25_\d+)_\d", r"clic25_(\d\d)", "clic25_(..)|lone"])
def test_tiles_of_one_photograph_are_never_parted(tmp_path: Path, tiles: Path, pattern: str) -> None:
    output, group = tmp_path / "mine", re.compile(pattern)
    split = make_split(tiles, output, [2], 4, group=group)
    train, held = held_names(output)
    assert (sorted(split.training), sorted(split.held)) == (train, held) and sorted(train + held) == sorted(TILES)
    assert 4 <= len(held) <= 8 and not {name[:9] for name in train} & {name[:9] for name in held}
    assert make_split(tiles, output, [2], 4, group=group).lr_images == 0, "the second time finds all done"
    for name in (f"{held[0]}9", "clic25_77_0"):  # of a photograph that is held out, and of a new one
        save_image(tiles / f"{name}.png", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    make_split(tiles, output, [2], 4, group=group)
    assert held_names(output) == (sorted([*train, "clic25_77_0"]), sorted([*held, f"{held[0]}9"]))


def test_groups_that_make_no_split_are_refused(tmp_path: Path, tiles: Path) -> None:
    def split(holdout: int, group: str | None) -> None:
        make_split(tiles, tmp_path / "mine", [2], holdout, group=re.compile(group) if group else None)

    with pytest.raises(ConfigError, match=r"--group tile: no name begins with it; the names are clic25_00_0"):
        split(2, "tile")
    with pytest.raises(ConfigError, match="would leave none of the 2 groups of --group to train on"):
        split(15, "clic25")
    split(4, r"clic25_\d+")
    for holdout, group in ((2, None), (9, r"clic25_\d+")):
        with pytest.raises(OutputError, match=rf"mine_val holds . images already .*, not {holdout} of these"):
            split(holdout, group)
    with pytest.raises(ConfigError, match="--group is for --holdout"):
        prepare_command.main([str(tiles), "--output", str(tmp_path / "mine"), "--group", "clic"])
    with pytest.raises(SystemExit):
        prepare_command.main([str(tiles), "--output", str(tmp_path / "mine"), "--holdout", "2", "--group", "("])


def test_a_split_of_another_folder_into_this_one(
    tmp_path: Path, many: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine/inner").mkdir(parents=True)
    for folder, output in (("mine", "."), ("mine/inner", "../../other")):
        monkeypatch.chdir(tmp_path / folder)
        prepare_command.main([str(many), "--output", output, "--scales", "2", "--holdout", "2"])
        assert "_val; check them" in capsys.readouterr().out
    for name in ("mine", "other"):
        assert [len(names) for names in held_names(tmp_path / name)] == [8, 2]

"""What a validation shows: strips of each set, in a file of their own each."""

from pathlib import Path

import numpy as np
import torch
from doubling import Doubling
from tiny_run import tiny_config
from toy_sets import write_set

from ssiu.training.run_folder import RunFolder
from ssiu.training.validation import LABEL, SHOWN_IMAGES, Validation, comparison_strip


def shown(folder: Path, sets: dict[str, list[str]]) -> list[str]:
    """The files that a validation on ``sets`` writes, relative to the run's results."""
    for seed, (name, images) in enumerate(sets.items()):
        write_set(folder / "data" / name, images, seed=seed)
    validation = Validation(tiny_config(folder, eval_sets=list(sets), test_every=1))
    _, strips, _ = validation.run(Doubling(), lambda: False)
    run = RunFolder(folder / "run")
    run.write_images(1, strips)
    run.close()
    results = folder / "run/results/validation"
    return sorted(path.relative_to(results).as_posix() for path in results.rglob("*.png"))


def test_every_set_shows_its_first_images_whatever_the_others_are_called(tmp_path: Path) -> None:
    names = [f"p{index}" for index in range(SHOWN_IMAGES + 1)]
    files = shown(tmp_path, {"mine_val": names, "mine": names})
    assert files == [f"{name}/{image}.png" for name in ("mine", "mine_val") for image in names[:SHOWN_IMAGES]]


def test_no_two_images_share_a_file(tmp_path: Path) -> None:
    assert shown(tmp_path, {"a": ["b_c"], "a_b": ["c"]}) == ["a/b_c.png", "a_b/c.png"]


def test_an_image_may_have_as_long_a_name_as_its_lr_allows(tmp_path: Path) -> None:
    name = "n" * (255 - len("x2.png"))
    assert shown(tmp_path, {"toy": [name]}) == [f"toy/{name}.png"]


def test_a_strip_names_its_four_images_above_them() -> None:
    lr, hr = np.full((20, 30, 3), 50, np.uint8), np.full((40, 60, 3), 200, np.uint8)
    strip = comparison_strip(lr, torch.full((3, 40, 60), 100 / 255), hr)
    assert strip.shape == (LABEL + 40, 4 * 60, 3) and strip.dtype == np.uint8
    columns = np.split(strip, 4, axis=1)
    assert [int(column[LABEL:].mean()) for column in columns] == [50, 50, 100, 200]
    names = [column[:LABEL] for column in columns]
    assert all(name.min() < 128 and name.max() == 255 for name in names), "dark on white"
    assert len({name.tobytes() for name in names}) == 4

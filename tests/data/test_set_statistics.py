"""`ssiu check --stats` says what the images of a set are like, `--keep-hardest` names those with the most gradients."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_run import tiny_config
from toy_sets import write_pairs

from ssiu.cli import check
from ssiu.data.layouts import list_images
from ssiu.data.set_statistics import BLOCKY, blockiness, duplicates, hardest, set_facts
from ssiu.data.training_data import build_stream
from ssiu.errors import BadInputError, ConfigError
from ssiu.images.io import read_rgb


def smooth(seed: int, contrast: float, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((size[0] // 4, size[1] // 4, 3)) * contrast + 128
    return np.clip(cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of images of growing contrast; `toy` has a flat, a gray and a twofold one and one from a JPEG."""
    root = tmp_path_factory.mktemp("statistics")
    images = {f"c{contrast:02}": smooth(contrast, contrast) for contrast in (5, 10, 20, 40)}
    images["again"] = images["c20"]
    images["flat"] = np.full((32, 40, 3), 7, np.uint8)
    images["gray"] = np.repeat(smooth(1, 30)[..., :1], 3, axis=2)
    Image.fromarray(smooth(2, 25, (96, 128))).save(root / "q.jpg", quality=10)
    images["fromjpeg"] = read_rgb(root / "q.jpg")
    write_pairs(root / "data/toy", images, 2)
    write_pairs(root / "data/other.jpg", {"x.jpg": images["c05"], "y": images["c40"]}, 2)
    return root


def test_the_facts_are_those_of_the_images(toy: Path) -> None:
    facts, problems = set_facts(list_images(toy / "data/toy/HR"))
    of = {each.name: each for each in facts}
    assert not problems and duplicates(facts) == 1
    assert [name for name, each in of.items() if each.gray] == ["flat", "gray"]
    assert [name for name, each in of.items() if each.flat == 1] == ["flat"] and of["c40"].flat == 0
    assert [name for name, each in of.items() if each.blockiness > BLOCKY] == ["fromjpeg"]
    assert of["flat"].size == (32, 40) and of["flat"].energy == 0
    assert of["c05"].energy < of["c10"].energy < of["c20"].energy == of["again"].energy < of["c40"].energy
    assert hardest(facts, 0.25) == sorted(each.name for each in sorted(facts, key=lambda e: -e.energy)[:2])
    assert len(hardest(facts, 1)) == 8 and len(hardest(facts, 1e-9)) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 40), (8, 8), (33, 31)], ids=str)
def test_images_of_any_size_have_facts(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "a.png")
    ((facts,), problems) = set_facts(list_images(tmp_path))
    assert not problems and facts.size == size and facts.flat == 1 and facts.blockiness == 1 and facts.energy == 0


def test_jpeg_is_seen_at_low_quality_and_photographs_without_are_not(
    photographs: list[np.ndarray], tmp_path: Path
) -> None:
    for rgb in photographs:
        luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        seen = []
        for quality in (10, 30):
            cv2.imwrite(str(tmp_path / "q.jpg"), luma, [cv2.IMWRITE_JPEG_QUALITY, quality])
            seen.append(blockiness(cv2.imread(str(tmp_path / "q.jpg"), cv2.IMREAD_GRAYSCALE).astype(np.float32)))
        assert seen[0] > seen[1] > BLOCKY > 1.14 > blockiness(luma.astype(np.float32))


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[np.ndarray]:
    return [read_rgb(path) for path in sorted((shared / "data/benchmark/Set5/HR").glob("*.png"))]


def test_the_command_prints_draws_and_writes_a_list_to_train_on(toy: Path, capsys) -> None:
    arguments = "--stats --figure", "--keep-hardest 0.5"
    hard, figure = toy / "lists/hard.txt", toy / "figures/toy.png"
    check.main([str(toy / "data/toy"), *arguments[0].split(), str(figure), *arguments[1].split(), str(hard)])
    printed = capsys.readouterr().out
    assert "4 images of 8; train on them with image_list=" in printed
    assert " 128x96 " in printed and " 40x32 " in printed and read_rgb(figure).size > 10_000
    names = hard.read_text().split()
    assert len(names) == 4 and "c40.png" in names and "flat.png" not in names
    stream = build_stream(tiny_config(toy, training_dataset="toy", image_list=str(hard)))
    assert [f"{name}.png" for name in stream.sets[0].pairs.names] == names


def test_a_name_that_ends_as_an_image_is_found_again(toy: Path) -> None:
    check.main([str(toy / "data/other.jpg"), "--keep-hardest", "1", str(toy / "all.txt")])
    stream = build_stream(tiny_config(toy, training_dataset="other.jpg", image_list=str(toy / "all.txt")))
    assert list(stream.sets[0].pairs.names) == ["x.jpg", "y"]


def test_what_cannot_be_done_is_said(toy: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(ConfigError, match=r"holds other\.jpg, toy; name one of them"):
        check.main([str(toy / "data"), "--keep-hardest", "0.5", str(tmp_path / "list")])
    for share in ("0", "1.5", "half", "nan"):
        with pytest.raises(SystemExit, match="2"):
            check.main([str(toy / "data/toy"), "--keep-hardest", share, str(tmp_path / "list")])
        assert f"expected a share above 0 and up to 1, and a file, got {share}" in capsys.readouterr().err
    write_pairs(tmp_path / "data/set", {"a": smooth(1, 9), "b": smooth(2, 9)}, 2)
    (tmp_path / "data/set/HR/b.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    with pytest.raises(BadInputError, match=r"1 problem, listed above; the first: .*b\.png"):
        check.main([str(tmp_path / "data/set"), "--stats"])
    assert "set" in capsys.readouterr().out
    assert not (tmp_path / "list").exists()

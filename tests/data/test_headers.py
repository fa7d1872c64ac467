"""Headers of many files are those that Pillow reads; the index of a large set is only believed of unchanged files."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from image_kinds import read_kinds

from ssiu.data import headers
from ssiu.data.headers import image_headers
from ssiu.errors import BadInputError, MissingInputError
from ssiu.images.io import image_size, save_image


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"images/{number}.png" for number in range(6)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        save_image(path, np.full((10 + number, 20, 3), number, np.uint8))
    return [str(path) for path in paths]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose headers have been read."""
    seen: list[str] = []
    original = headers._image_size

    def noted(file: str) -> tuple[int, int]:
        seen.append(file)
        return original(file)

    monkeypatch.setattr(headers, "_image_size", noted)
    return seen


def test_where_every_file_is_waited_for_several_are_read_at_once(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = image_headers(files)
    monkeypatch.setattr(headers, "CHUNK", 1)
    monkeypatch.setattr(headers, "LATENCY", 0.0)
    original, together = headers._image_size, threading.Barrier(len(files) - 1, timeout=20)

    def waiting(file: str) -> tuple[int, int]:
        if file != files[0]:  # which shows that it takes long
            together.wait()
        return original(file)

    monkeypatch.setattr(headers, "_image_size", waiting)
    assert np.array_equal(image_headers(files), expected)


def test_they_are_those_of_the_files_and_images_whatever_the_kind(tmp_path: Path) -> None:
    for name, content in read_kinds().items():
        path = tmp_path / name
        path.write_bytes(content)
        status = path.stat()
        expected = [status.st_size, status.st_mtime_ns, *image_size(path)]
        assert image_headers([str(path)]).tolist() == [expected], name


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dead.png").symlink_to("nowhere")
    for name, expected in (
        ("pipe", "is a pipe"),
        ("folder", "is a folder"),
        ("dead", "cannot be read"),
        ("x", "cannot"),
    ):
        with pytest.raises((BadInputError, MissingInputError), match=rf"{name}\.png: {expected}"):
            image_headers([str(tmp_path / f"{name}.png")])


def test_an_index_is_read_instead_of_the_headers(tmp_path: Path, files: list[str], read: list[str]) -> None:
    index = tmp_path / "cache/index.npz"
    first = image_headers(files, index)
    assert read == files and first[:, 2].tolist() == [10, 11, 12, 13, 14, 15]
    written = index.stat().st_mtime_ns
    np.testing.assert_array_equal(image_headers(files, index), first)
    assert read == files and index.stat().st_mtime_ns == written


def test_only_what_is_new_or_has_changed_is_read_again(tmp_path: Path, files: list[str], read: list[str]) -> None:
    index = tmp_path / "index.npz"
    image_headers(files[:5], index)
    read.clear()
    save_image(Path(files[1]), np.zeros((30, 40, 3), np.uint8))
    Path(files[2]).touch()
    Path(files[0]).unlink()
    found = image_headers(files[1:], index)
    assert read == [files[1], files[2], files[5]]
    np.testing.assert_array_equal(found, image_headers(files[1:]))
    assert found[0, 2:].tolist() == [30, 40]
    read.clear()
    image_headers(files[1:], index)
    assert read == []


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_index_is_as_none(tmp_path: Path, files: list[str], read: list[str], damage: str) -> None:
    index = tmp_path / "index.npz"
    first = image_headers(files, index)
    content = index.read_bytes()
    index.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"index"}[damage])
    read.clear()
    np.testing.assert_array_equal(image_headers(files, index), first)
    assert read == files and index.read_bytes() == content

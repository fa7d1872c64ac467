"""A bounded folder: never a byte too many, the least recently visited file goes first, and nobody's kill spoils it."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from ssiu.data.bounded import BoundedFolder
from ssiu.files import held


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.npy"))


def total(folder: Path) -> int:
    """Bytes of all files there but the lock and the count, also of those that are being written."""
    found = 0
    for entry in os.scandir(folder):
        if entry.name not in (".lock", ".bytes"):
            try:
                found += entry.stat().st_size
            except FileNotFoundError:
                continue
    return found


def test_what_was_visited_last_stays(tmp_path: Path) -> None:
    bounded = BoundedFolder(tmp_path / "cache", 100)
    for name in "abcd":
        bounded.write({bounded.folder / f"{name}.npy": b"x" * 20})
        time.sleep(0.01)
    bounded.visited(bounded.folder / "a.npy")
    bounded.write({bounded.folder / "e.npy": b"x" * 40})
    assert names(bounded.folder) == ["a.npy", "d.npy", "e.npy"]
    bounded.visited(bounded.folder / "gone.npy")


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    bounded = BoundedFolder(tmp_path, 100)
    bounded.write({tmp_path / "a.npy": b"x" * 60})
    bounded.write({tmp_path / "b.npy": b"x" * 101})
    assert names(tmp_path) == ["a.npy"]
    bounded.write({tmp_path / "c.npy": b"x" * 100})
    assert names(tmp_path) == ["c.npy"]


def test_a_file_that_is_there_is_not_counted_twice(tmp_path: Path) -> None:
    bounded = BoundedFolder(tmp_path, 100)
    for _ in range(5):
        bounded.write({tmp_path / "a.npy": b"x" * 40, tmp_path / "b.npy": b"x" * 10})
    bounded.write({tmp_path / "c.npy": b"x" * 40})
    assert names(tmp_path) == ["a.npy", "b.npy", "c.npy"]


@pytest.mark.parametrize("count", [None, b"", b"much", b"999999"], ids=repr)
def test_a_count_that_is_lost_damaged_or_too_large_is_made_again(tmp_path: Path, count: bytes | None) -> None:
    bounded = BoundedFolder(tmp_path, 100)
    bounded.write({tmp_path / "a.npy": b"x" * 40})
    (tmp_path / ".ssiu-0123456789abcdef.part").write_bytes(b"x" * 50)  # of a process that was killed
    (tmp_path / ".bytes").unlink() if count is None else (tmp_path / ".bytes").write_bytes(count)
    bounded.write({tmp_path / "b.npy": b"x" * 30})
    assert names(tmp_path) == ["a.npy", "b.npy"] and total(tmp_path) == 70
    assert (tmp_path / ".bytes").read_text() == "70"


def test_a_file_that_cannot_be_removed_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = BoundedFolder(tmp_path, 100)
    bounded.write({tmp_path / "a.npy": b"x" * 60})

    def refuse(path: str) -> None:
        raise PermissionError(13, "in use", path)

    monkeypatch.setattr(os, "unlink", refuse)
    bounded.write({tmp_path / "b.npy": b"x" * 60})
    assert names(tmp_path) == ["a.npy"]


def _write_many(folder: Path, limit: int, seed: int) -> None:
    bounded, random = BoundedFolder(folder, limit), np.random.default_rng(seed)
    while True:
        name, size = random.integers(0, 60), int(random.integers(1000, 30_000))
        bounded.write({folder / f"{name}.npy": b"x" * size})
        bounded.visited(folder / f"{random.integers(0, 60)}.npy")


def test_writers_that_are_killed_at_any_moment_never_pass_the_bound(tmp_path: Path) -> None:
    limit, largest, random = 200_000, 0, np.random.default_rng(1)
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + 6
    writers = []
    while time.monotonic() < end:
        while len(writers) < 4:
            writers.append(context.Process(target=_write_many, args=(tmp_path, limit, len(writers)), daemon=True))
            writers[-1].start()
        for _ in range(20):
            largest = max(largest, total(tmp_path))
            time.sleep(random.uniform(0, 0.005))
        victim = writers.pop(0)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
    for writer in writers:
        writer.kill()
        writer.join()
    assert 0.5 * limit < largest <= limit
    with held(tmp_path / ".lock", tmp_path, "still held", "", 5):
        pass

"""Training checkpoints whose writer is killed, or whose disk is full."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import at_io_call, in_child, limit_file_size
from tiny import make_state, same

from ssiu.errors import SaveError
from ssiu.files import remove_leftovers
from ssiu.weights.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder's last.pt at step 1."""
    save_checkpoint(tmp_path / "last.pt", make_state(1))
    return tmp_path / "last.pt"


def save_step_2(path: Path) -> None:
    save_checkpoint(path, make_state(2))


def step_of(path: Path) -> int:
    """The step of an intact checkpoint, all of whose values belong to that step."""
    state = load_checkpoint(path)
    assert same(state, make_state(state["step"]))
    return state["step"]


def test_a_kill_at_any_io_call_leaves_the_old_or_the_new_checkpoint(path: Path) -> None:
    outcomes = []
    for moment in range(1, 1000):

        def task(moment: int = moment) -> None:
            at_io_call(moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
            save_step_2(path)

        code, _ = in_child(task)
        outcomes.append(step_of(path))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        remove_leftovers(path.parent)
        assert [entry.name for entry in path.parent.iterdir()] == ["last.pt"]
        if outcomes[-1] == 2:
            save_checkpoint(path, make_state(1))
    assert code == 0 and len(outcomes) > 15
    changed = outcomes.index(2)
    assert changed > 5 and set(outcomes[:changed]) == {1} and set(outcomes[changed:]) == {2}


def test_a_kill_in_the_middle_of_the_write_leaves_the_old_checkpoint(path: Path) -> None:
    size = path.stat().st_size
    for written in (0, 1, 1000, size // 2, size - 1):

        def task(written: int = written) -> None:
            limit_file_size(written, kill=True)
            save_step_2(path)

        code, _ = in_child(task)
        assert code == -signal.SIGXFSZ and step_of(path) == 1
        (orphan,) = path.parent.glob(".*.part")
        assert orphan.stat().st_size == written
        remove_leftovers(path.parent)


def test_a_full_disk_is_a_save_error_and_keeps_the_old_checkpoint(path: Path) -> None:
    size = path.stat().st_size
    for free in (0, 1, size // 2, size - 1):

        def task(free: int = free) -> None:
            limit_file_size(free, kill=False)
            save_step_2(path)

        code, message = in_child(task)
        assert code == 74 and str(path) in message and "bytes needed" in message
        assert step_of(path) == 1 and [entry.name for entry in path.parent.iterdir()] == ["last.pt"]


def test_an_error_at_any_write_is_a_save_error_and_leaves_an_intact_checkpoint(path: Path) -> None:
    def no_space() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls = ("open", "write", "flush", "fsync", "replace")
    failures = 0
    for moment in range(1, 100):

        def task(moment: int = moment) -> None:
            at_io_call(moment, no_space, calls)
            save_step_2(path)

        code, message = in_child(task)
        if code == 0:
            break
        failures += 1
        assert code == SaveError.exit_code and "No space left" in message, (moment, message)
        assert [entry.name for entry in path.parent.iterdir()] == ["last.pt"]
        if step_of(path) == 2:
            save_checkpoint(path, make_state(1))
    assert failures >= 5 and step_of(path) == 2  # what comes after them is the folder's own, and the file is there


def test_the_data_is_on_the_disk_before_it_takes_the_name_and_so_is_the_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill cannot show this, a power failure would: fsync of the file, rename, fsync of the folder."""
    calls = []

    def record(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (calls.append(function.__name__), function(*arguments))[1]

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, record(getattr(os, name)))
    save_step_2(path)
    assert calls == ["fsync", "replace", "fsync"] and step_of(path) == 2

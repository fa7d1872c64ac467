"""Training checkpoints under attack: hostile files, writers that are killed, disks that are full."""

import errno
import io
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import (
    Call,
    at_io_call,
    greedy_files,
    hostile_files,
    in_child,
    limit_file_size,
    limit_memory,
    record_effects,
    saved,
    torch_zip,
)
from tiny import make_state, same

from ssiu.errors import BadInputError, SaveError
from ssiu.files import remove_leftovers
from ssiu.weights.checkpoint import load_checkpoint, save_checkpoint
from ssiu.weights.formats import read_weights
from ssiu.weights.torch_files import read_torch_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder's last.pt at step 1."""
    save_checkpoint(tmp_path / "last.pt", make_state(1))
    return tmp_path / "last.pt"


# hostile files


def test_hostile_files_are_refused_without_any_effect(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    files = list(hostile_files(victim))
    assert len(files) >= 20

    def read_all() -> dict[str, Any]:
        outcomes = {}
        target = tmp_path / "evil.pt"
        for reader in (read_torch_file, read_weights):  # loads what the readers load lazily
            for content in (saved(Call(print, "x")), torch_zip(b"cos\nsystem\n.")):
                target.write_bytes(content)
                with pytest.raises(BadInputError):
                    reader(target)
        limit_memory(256 * 2**20)
        events = record_effects()
        for name, content, _ in files:
            target.write_bytes(content)
            del events[:]
            messages = []
            for reader in (load_checkpoint, read_weights):
                try:
                    messages.append(f"accepted {reader(target)}")
                except BadInputError as error:
                    messages.append(str(error))
            outcomes[name] = messages, list(events), victim.exists()
        return outcomes

    code, outcomes = in_child(read_all)
    assert code == 0, outcomes
    for name, _, must_name in files:
        messages, events, happened = outcomes[name]
        assert events == [] and not happened, name
        assert all(must_name in message and message.isprintable() for message in messages), (name, messages)
        assert not any(message.startswith("accepted") for message in messages), (name, messages)


def test_the_same_files_do_act_on_a_reader_that_unpickles(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    victim, target = tmp_path / "victim", tmp_path / "evil.pt"

    def read_all() -> list[str]:
        events, acted = record_effects(), []
        for name, content, _ in hostile_files(victim):
            if name in (
                "os.system",
                "eval",
                "exec",
                "nested",
                "beside weights",
                "opcode GLOBAL",
                "opcode INST",
                "dotted name",
            ):
                target.write_bytes(content)
                del events[:]
                torch.load(target, weights_only=False)
                assert events and victim.exists()
                victim.unlink()
                acted.append(name)
        return acted

    code, acted = in_child(read_all)
    assert code == 0 and len(acted) == 8, acted


def test_greedy_files_do_take_gigabytes_where_torch_alone_reads_them(tmp_path: Path) -> None:
    """Otherwise their refusal above would prove nothing. ``weights_only`` keeps code away, not allocations."""
    for name, content, _ in greedy_files():
        if name in ("a storage", "a claim"):  # torch notices these
            continue
        (tmp_path / "greedy.pt").write_bytes(content)
        assert len(content) < 400_000

        def read() -> None:
            torch.load(io.BytesIO(saved([])), weights_only=True)  # loads what torch loads lazily
            limit_memory(96 << 20)
            torch.load(tmp_path / "greedy.pt", weights_only=True)

        code, message = in_child(read)
        assert code == 1 and ("memory" in message or message == "MemoryError: "), (name, message)


def test_what_training_files_hold_is_read_within_their_size(reference: Path, tmp_path: Path) -> None:
    """Every kind of number, parameters, and a scheduler's Counter; the authors' with optimizer and scheduler."""
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    kinds += (torch.int8, torch.uint8, torch.bool)
    document = {str(kind): torch.ones(3, 2).to(kind).t() for kind in kinds}
    document |= {"parameter": torch.nn.Parameter(torch.ones(2)), "milestones": Counter([250, 400, 400])}
    document |= {"module": torch.nn.Linear(2, 2).state_dict(), "long": 2**40, "none": [None, True, 0.5, "x", ()]}
    (tmp_path / "all.pt").write_bytes(saved(document))
    paths = [tmp_path / "all.pt", *sorted(reference.glob("*.pt"))]
    assert len(paths) == 5

    def read() -> list[int]:
        [read_torch_file(path) for path in paths]  # loads what torch loads lazily
        limit_memory(64 << 20)
        found = read_torch_file(paths[0])
        assert all(torch.equal(found[str(kind)], document[str(kind)]) for kind in kinds)
        assert found["milestones"] == document["milestones"] and found["none"] == document["none"]
        return [len(read_torch_file(path)) for path in paths[1:]]

    code, lengths = in_child(read)
    assert code == 0, lengths
    assert min(lengths) > 2


# kills and full disks


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

"""Training checkpoints: what is saved comes back, whatever kills the writer, damages the file or forged it."""

import errno
import math
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Call, at_io_call, hostile_files, in_child, limit_file_size, limit_memory, record_effects, saved

from ssiu.checkpoint import (
    clean_temporaries,
    find_checkpoint,
    load_checkpoint,
    read_torch_file,
    save_checkpoint,
    tensors_digest,
)
from ssiu.errors import BadInputError, MissingInputError, NonFiniteError, SaveError
from ssiu.weights import read_weights


def make_state(step: int) -> dict[str, Any]:
    """A small state with every kind of value a checkpoint may hold."""
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(4, 3, generator=generator)
    return {
        "step": step,
        "model": {"weight": weight, "half": weight.bfloat16(), "transposed": weight.t(), "empty": torch.ones(0, 2)},
        "ema": None,
        "optimizer": {
            "state": {0: {"step": torch.tensor(float(step)), "exp_avg": weight * 2}, 1: {}},
            "param_groups": [{"lr": 1e-3 / 3, "betas": (0.9, 0.99), "fused": None, "amsgrad": False, "params": [0, 1]}],
        },
        "flags": [True, 1, 1.0, (), "é", torch.tensor([True, False])],
    }


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, types included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder's last.pt at step 1."""
    save_checkpoint(tmp_path / "last.pt", make_state(1))
    return tmp_path / "last.pt"


def test_a_state_comes_back_bit_for_bit_with_its_types(path: Path) -> None:
    assert same(load_checkpoint(path), make_state(1))


def test_a_value_may_stand_in_two_places(tmp_path: Path) -> None:
    shared = {"lr": 1.0, "betas": (0.9, 0.99), "weight": torch.ones(2)}
    save_checkpoint(tmp_path / "last.pt", {"a": shared, "b": [shared, shared]})
    assert same(load_checkpoint(tmp_path / "last.pt"), {"a": shared, "b": [shared, shared]})


def test_any_tool_reads_it_without_pickle(path: Path) -> None:
    document = torch.load(path, weights_only=True)
    assert document["step"] == 1 and torch.equal(document["model"]["weight"], make_state(1)["model"]["weight"])


def test_an_optimizer_goes_on_exactly(tmp_path: Path) -> None:
    def build() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, betas=(0.9, 0.99))

    def step(layer: torch.nn.Linear, optimizer: torch.optim.AdamW) -> None:
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    layer, optimizer = build()
    step(layer, optimizer)
    save_checkpoint(tmp_path / "last.pt", {"model": layer.state_dict(), "optimizer": optimizer.state_dict()})
    step(layer, optimizer)
    resumed, resumed_optimizer = build()
    state = load_checkpoint(tmp_path / "last.pt")
    resumed.load_state_dict(state["model"])
    resumed_optimizer.load_state_dict(state["optimizer"])
    step(resumed, resumed_optimizer)
    assert torch.equal(resumed.weight, layer.weight) and torch.equal(resumed.bias, layer.bias)


def test_a_slice_is_saved_without_the_rest_of_its_memory(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", {"row": torch.ones(1000, 1000)[3]})
    assert (tmp_path / "last.pt").stat().st_size < 8000


@pytest.mark.parametrize("value", [torch.tensor([1.0, math.nan]), torch.tensor(math.inf), math.nan, -math.inf])
def test_nothing_that_is_not_finite_is_ever_written(path: Path, value: Any) -> None:
    with pytest.raises(NonFiniteError, match="'model/bad'") as caught:
        save_checkpoint(path, {"model": {"bad": value}})
    assert caught.value.exit_code == 70 and same(load_checkpoint(path), make_state(1))


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, torch.float32, b"x", {(1, 2): 3}])
def test_only_tensors_and_plain_values_are_accepted(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "last.pt", {"value": value})


def test_the_digest_sees_name_dtype_shape_and_values() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(2, 3), "c": torch.ones(2)},
        {"a": torch.zeros(3, 2), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3), "b": torch.tensor([1.0, 1.0000001])},
        {"a": -torch.zeros(2, 3), "b": torch.ones(2)},
    ]
    digests = [tensors_digest(x) for x in [tensors, *others]]
    assert len(set(digests)) == len(digests)
    assert tensors_digest(dict(reversed(tensors.items()))) == digests[0]


# damage


def test_no_flipped_byte_changes_a_value_silently(path: Path) -> None:
    intact, original = path.read_bytes(), make_state(1)
    rng = random.Random(0)
    refused = 0
    for _ in range(1000):
        data = bytearray(intact)
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        try:
            assert same(load_checkpoint(path), original)
        except BadInputError:
            refused += 1
    assert refused > 500  # the others hit padding and dates of the archive


def test_no_truncated_file_is_accepted(path: Path) -> None:
    intact = path.read_bytes()
    for length in random.Random(0).sample(range(len(intact)), 200):
        path.write_bytes(intact[:length])
        with pytest.raises(BadInputError):
            load_checkpoint(path)


def test_a_changed_value_with_correct_checksums_is_refused(path: Path) -> None:
    document = torch.load(path, weights_only=True)
    document["optimizer"]["param_groups"][0]["betas"] = [0.9, 0.99]  # a tuple before
    path.write_bytes(saved(document))
    with pytest.raises(BadInputError, match="do not match the sha256"):
        load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_missing_input(tmp_path: Path) -> None:
    for path in (tmp_path / "last.pt", tmp_path):
        with pytest.raises(MissingInputError, match=str(tmp_path)):
            load_checkpoint(path)


def test_weights_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(saved({"weight": torch.ones(2)}))
    with pytest.raises(BadInputError, match=r"no checkpoint of a training run.*pretrain=FILE"):
        load_checkpoint(tmp_path / "weights.pt")


# hostile files


def test_hostile_files_are_refused_without_any_effect(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    files = list(hostile_files(victim))
    assert len(files) >= 20

    def read_all() -> dict[str, Any]:
        outcomes = {}
        target = tmp_path / "evil.pt"
        for reader in (read_torch_file, read_weights):  # loads what the readers load lazily
            target.write_bytes(saved(Call(print, "x")))
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
        clean_temporaries(path.parent)
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
        clean_temporaries(path.parent)


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
    assert failures >= 6 and step_of(path) == 2


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


# finding the one to resume from


def test_no_checkpoint_at_all_is_none(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None and find_checkpoint(tmp_path / "absent") is None


def test_last_comes_first_then_the_highest_step_then_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["last.pt", "step_1000.pt", "step_200.pt", "best.pt"]
    for step, name in enumerate(names):
        save_checkpoint(tmp_path / name, make_state(step))
    for step, name in enumerate(names):
        caplog.clear()
        found, state = find_checkpoint(tmp_path)
        assert found == tmp_path / name and same(state, make_state(step))
        assert sum("skipped" in text for text in caplog.messages) == step
        assert ("going on from" in caplog.text) == (step > 0)
        found.write_bytes(found.read_bytes()[:-1])
    with pytest.raises(BadInputError, match="none of the 4 checkpoints"):
        find_checkpoint(tmp_path)


def test_cleaning_removes_only_what_killed_writers_left(tmp_path: Path) -> None:
    for name in (".last.pt.123.part", "last.pt", "notes.part", ".hidden"):
        (tmp_path / name).write_text("x")
    clean_temporaries(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".hidden", "last.pt", "notes.part"]

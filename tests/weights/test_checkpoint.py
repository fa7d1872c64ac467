"""Training checkpoints: what is saved comes back bit for bit, and damage is noticed."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import saved
from tiny import make_state, same

from ssiu.errors import BadInputError, MissingInputError, NonFiniteError
from ssiu.weights.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint, tensors_digest


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
    with pytest.raises(BadInputError, match=r"not a checkpoint of a training run.*pretrain=FILE"):
        load_checkpoint(tmp_path / "weights.pt")


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
        assert ("continuing from" in caplog.text) == (step > 0)
        found.write_bytes(found.read_bytes()[:-1])
    with pytest.raises(BadInputError, match="none of the 4 checkpoints"):
        find_checkpoint(tmp_path)

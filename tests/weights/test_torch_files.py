"""Files of torch.save: what trainings and other tools write is read; what is refused neither acts nor takes long."""

import io
import pickle
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import ends_within, in_child, limit_memory, record_effects
from hostile import Call, hostile_files, legacy, rewritten, saved, torch_zip

from ssiu.errors import BadInputError
from ssiu.weights.checkpoint import load_checkpoint
from ssiu.weights.formats import read_weights
from ssiu.weights.torch_files import read_torch_file

NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
NUMBERS += (torch.int8, torch.uint8, torch.bool)


def training_state() -> dict[str, Any]:
    """Every kind of value and of sharing that trainings leave in their files."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": [layer.weight]}, {"params": [layer.bias]}])  # the groups share `betas`
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    weights = layer.state_dict()
    return {
        "numbers": {str(kind): torch.ones(3, 2).to(kind).t() for kind in NUMBERS},
        "params": weights,
        "params_ema": weights,
        "parameters": dict(layer.named_parameters()),
        "tied": [layer.weight, layer.weight],
        "optimizer": optimizer.state_dict(),
        "scheduler": {"milestones": Counter([250, 400, 400]), "last_lr": [1e-4], "verbose": False},
        "random": random.Random(0).getstate(),
        "others": [2**40, None, True, 0.5, "x", (), {3: "é"}],
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(
    "write", [saved, legacy, lambda state: rewritten(saved(state))], ids=["zip", "old", "deflated"]
)
def test_what_trainings_leave_is_read_exactly(tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    """In torch's format, in the one from before 1.6, and packed again by another tool."""
    (tmp_path / "state.pt").write_bytes(write(training_state()))
    assert same(read_torch_file(tmp_path / "state.pt"), torch.load(tmp_path / "state.pt", weights_only=True))


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """Its texts are bytes, and its OrderedDict is called with a list of pairs."""
    items = b"](](U\x01aK\x01e](U\x01bK\x02ee\x85R"
    (tmp_path / "old.pt").write_bytes(torch_zip(b"\x80\x02ccollections\nOrderedDict\n" + items + b"."))
    assert read_torch_file(tmp_path / "old.pt") == {"a": 1, "b": 2}


def test_hostile_files_are_refused_without_any_effect(tmp_path: Path) -> None:
    victim, target = tmp_path / "victim", tmp_path / "evil.pt"
    files = list(hostile_files(victim))
    assert len(files) >= 60

    def read_all() -> dict[str, Any]:
        outcomes = {}
        for reader in (read_torch_file, read_weights):  # loads what the readers load lazily
            for content in (saved(Call(print, "x")), legacy([]), torch_zip(b"cos\nsystem\n.")):
                target.write_bytes(content)
                with pytest.raises(BadInputError):
                    raise BadInputError(str(reader(target)))
        limit_memory(256 * 2**20)
        events = record_effects()
        for name, content, _ in files:
            target.write_bytes(content)
            del events[:]
            messages = []
            for reader in (load_checkpoint, read_weights):
                try:
                    with ends_within(10):
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
        assert all(message.isprintable() and not message.startswith("accepted") for message in messages), messages
        assert must_name in messages[-1], (name, messages)


def test_the_same_files_do_act_on_a_reader_that_unpickles(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    victim, target = tmp_path / "victim", tmp_path / "evil.pt"

    def read_all() -> list[str]:
        events, acted = record_effects(), []
        for name, content, _ in hostile_files(victim):
            if name in ("os.system", "eval", "nested", "opcode GLOBAL", "opcode INST", "dotted name", "legacy format"):
                target.write_bytes(content)
                del events[:]
                torch.load(target, weights_only=False)
                assert events and victim.exists()
                victim.unlink()
                acted.append(name)
        return acted

    code, acted = in_child(read_all)
    assert code == 0 and len(acted) == 7, acted


def test_torch_reads_only_what_was_checked(tmp_path: Path) -> None:
    """It finds entries whatever their case, skips such as say that they are folders, and takes the first folder's."""
    evil = pickle.dumps(Call(print, "x"), 2)
    content = saved({"weight": torch.ones(2)})
    marked = content.rindex(b"archive/data/0") - 46 + 38  # the attributes in the archive's directory
    files = [content[:marked] + b"\x10" + content[marked + 1 :]]
    for name in ("archive/DATA.PKL", "archive/data.pkl/", "archive/code/data.pkl"):
        for first in (True, False):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as after, zipfile.ZipFile(io.BytesIO(content)) as before:
                entries = [(entry, before.read(entry)) for entry in before.namelist()]
                for entry, data in [(name, evil), *entries] if first else [*entries, (name, evil)]:
                    after.writestr(entry, data)
            files.append(buffer.getvalue())
    for data in files:
        (tmp_path / "weights.pt").write_bytes(data)
        try:
            assert torch.equal(read_torch_file(tmp_path / "weights.pt")["weight"], torch.ones(2))
        except BadInputError as error:
            assert "builtin__.print" in str(error)


@pytest.mark.parametrize("write", [saved, legacy])
def test_a_mutated_file_is_read_or_refused_in_a_line(tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    """Bits, instructions, cuts and repetitions, where the pickles are."""
    mutate(tmp_path / "state.pt", write, 200)


@pytest.mark.full
@pytest.mark.parametrize("write", [saved, legacy])
def test_thousands_of_mutated_files_are(tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    mutate(tmp_path / "state.pt", write, 3000)


def mutate(path: Path, write: Callable[[Any], bytes], count: int) -> None:
    rng = random.Random(0)
    state = training_state()
    del state["random"]  # 625 numbers, all alike
    intact = write(state)
    mutated = zipfile.ZipFile(io.BytesIO(intact)).read("archive/data.pkl") if write is saved else intact
    end = mutated.rindex(b"\x80\x02")
    end = end or len(mutated)  # of the last pickle of several
    refused = 0
    for _ in range(count):
        data = bytearray(mutated)
        for _ in range(rng.choice((1, 1, 2, 5))):
            last = min(end, len(data))
            place, other, length = rng.randrange(last), rng.randrange(last), rng.randrange(1, 40)
            kind = rng.randrange(4)
            if kind == 0:
                data[place] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[place] = rng.choice(b"q.()]}tRbueaQ0\x85\x86\x87hjcX\x8a\x80")
            elif kind == 2:
                del data[place : place + length]
            else:
                data[place:place] = data[other : other + length]
        content = bytes(data)
        path.write_bytes(rewritten(intact, zipfile.ZIP_STORED, **{"data.pkl": content}) if write is saved else content)
        for reader in (read_torch_file, read_weights, load_checkpoint):
            try:
                with ends_within(10):
                    reader(path)
            except BadInputError as error:
                refused += 1
                assert str(error).isprintable()
    assert refused > 2 * count

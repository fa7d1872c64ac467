"""A data set of the user's own, named in a config: any class with items, in the order of every stream."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import same
from tiny_run import make_data, outcome, run_with_stops, tiny_config

from ssiu.config.load import load_config, make_config
from ssiu.data.training_data import build_stream
from ssiu.errors import BadInputError, ConfigError
from ssiu.training.trainer import Trainer

FILE = """
import random
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

class Pairs(Dataset):
    def __init__(self, upscale, count=5, side=6, wrong=None):
        self.scale, self.count, self.side, self.wrong = upscale, count, side, wrong
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        if self.wrong == "raises" and index == 3:
            raise FileNotFoundError("0003.png")
        if self.wrong == "smaller" and index == 3:
            self = Pairs(self.scale, side=5)
        drawn = random.random() + np.random.rand() + torch.rand(1).item()
        lr = torch.full((3, self.side, self.side), (index + drawn / 3) / 8)
        return (lr, lr.repeat(1, self.scale, self.scale)) if self.wrong != "flat" else (lr[0], lr[0])

class Lists(Pairs):
    def __getitem__(self, index):
        lr = np.full((3, 4, 4), index, np.uint8)
        return {"lq": lr, "gt": np.repeat(np.repeat(lr, self.scale, 1), self.scale, 2), "lq_path": "0001.png"}

class Words(Pairs):
    def __getitem__(self, index):
        return "lr.png", "hr.png"

class Endless:
    def __iter__(self):
        return iter([])

class Net(nn.Sequential):
    def __init__(self, scale):
        super().__init__(nn.Conv2d(3, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

class Far(nn.Module):
    def forward(self, sr, hr):
        return (sr - hr).pow(4).mean()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of a file with them."""
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(FILE)
    search = list(sys.path)
    yield str(path)
    sys.path[:] = search
    for name in [name for name in sys.modules if name.startswith("_ssiu_")]:
        del sys.modules[name]


def _stream(file: str, kind: str = "Pairs", **arguments: object) -> object:
    values = {"scale": 2, "batch_size": 4, "data_repeat": 2, "training_dataset": f"{file}:{kind}"}
    return build_stream(make_config({**values, "training_dataset_args": arguments}))


def test_each_item_comes_as_often_an_epoch_and_what_it_draws_follows_from_the_sample(file: str) -> None:
    stream = _stream(file)
    assert stream.samples_per_epoch == 10
    batches = [stream.batch(m) for m in range(5)]
    lr = torch.cat([lr for lr, _ in batches])[:, 0, 0, 0]
    assert sorted((8 * lr[:10]).int().tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] and len(set(lr.tolist())) == 20
    assert all(hr.shape == (4, 3, 12, 12) and hr[:, :, ::2, ::2].equal(low) for low, hr in batches)
    torch.rand(3)
    assert stream.batch(1)[0].equal(batches[1][0]), "whatever was drawn before"
    parts = [stream.batch(1, rank, 2)[0] for rank in (0, 1)]
    assert torch.cat(parts).equal(batches[1][0])
    state = torch.get_rng_state()
    stream.batch(2)
    assert torch.get_rng_state().equal(state)


def test_workers_make_the_same_batches_forked_or_not(file: str) -> None:
    stream = _stream(file)
    loader = list(stream.loader(0, 4, threads=2))
    assert all(lr.equal(stream.batch(m)[0]) for m, (lr, _) in enumerate(loader))
    assert pickle.loads(pickle.dumps(stream)).batch(3)[0].equal(stream.batch(3)[0])


def test_items_may_be_bytes_in_a_dict_as_those_of_basicsr_are(file: str) -> None:
    stream = _stream(file, "Lists")
    lr, hr = stream.batch(0)
    assert lr.dtype == hr.dtype == torch.uint8 and hr.shape == (4, 3, 8, 8)
    assert stream.names(0) == [f"Lists[{index}]" for index in lr[:, 0, 0, 0].tolist()]


def test_another_number_of_items_or_another_argument_is_another_data_set(file: str) -> None:
    digests = [_stream(file, **arguments).manifest for arguments in ({}, {}, {"count": 6}, {"side": 7})]
    assert digests[0] == digests[1] and len(set(digests)) == 3


@pytest.mark.parametrize(
    ("kind", "arguments", "reason"),
    [
        ("Gone", {}, "has no class Gone"),
        ("Pairs", {"depth": 1}, r"cannot be built with scale=2 and training_dataset_args .*unexpected keyword"),
        ("Endless", {}, "expected a class with __len__ and __getitem__"),
        ("Pairs", {"count": 0}, "has no items"),
        ("Words", {}, r"item 0 fails: .*expected \(lr, hr\), or a dict with lq and gt"),
        (
            "Pairs",
            {"wrong": "flat"},
            r"item 0 is \(6, 6\) and \(6, 6\); expected LR \(3, h, w\) and HR \(3, 2 h, 2 w\)",
        ),
        ("Pairs", {"wrong": "raises"}, r"item 3 fails: FileNotFoundError: 0003\.png"),
        ("Pairs", {"wrong": "smaller"}, r"item 3 is \(3, 5, 5\) torch\.float32 .*expected what item 0 is, \(3, 6, 6\)"),
    ],
)
def test_a_mistake_is_one_line(file: str, kind: str, arguments: dict, reason: str) -> None:
    with pytest.raises((ConfigError, BadInputError), match=reason) as error:
        list(_stream(file, kind, **arguments).loader(0, 3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"training_dataset": ["a.py:B", "df2k"]}, "a.py:B stands alone|plain folder name"),
        ({"training_dataset": {"a.b:C": 1, "df2k": 2}}, "a.b:C stands alone"),
        ({"training_dataset": "a.py:B", "hr_folder": "x"}, "a.py:B stands alone, without other sets, hr_folder"),
        ({"training_dataset": "a.b:C", "image_list": "x"}, "a.b:C stands alone"),
        ({"training_dataset_args": {"a": 1}}, "training_dataset_args are for a class of your own"),
        ({"training_dataset": "../photos"}, r"package\.module:Class or FILE\.py:Class or a plain folder name"),
    ],
)
def test_what_does_not_go_together_is_said(values: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_config(values)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"optimizer": "torch.optim:NAdam"},
        {"optimizer": "pytorch_optimizer:SOAP", "optimizer_args": {"precondition_frequency": 2}, "ema_decay": 0.9},
        {"optimizer": "schedulefree:AdamWScheduleFree", "scheduler": "constant", "warmup_iterations": 3},
    ],
    ids=["NAdam", "SOAP", "schedule-free"],
)
def test_network_loss_optimizer_and_data_of_ones_own_train_from_one_file_and_go_on_bit_for_bit(
    file: str, tmp_path: Path, optimizer: dict
) -> None:
    pytest.importorskip(optimizer["optimizer"].partition(":")[0], reason="not installed (the extra dev has it)")
    make_data(tmp_path / "data")
    own = {
        "model": f"{file}:Net", "n_feats": 64, "num_heads": 4, "n_blocks": 1, "patch_size": 24,
        "losses": {"l1": 1.0, f"{file}:Far": {"weight": 0.5}}, **optimizer, "betas": None, "weight_decay": None,
        "training_dataset": f"{file}:Pairs", "training_dataset_args": {"count": 7},
        "max_iterations": 8, "test_every": 0,
    }  # fmt: skip
    (tmp_path / "own.yml").write_text(tiny_config(tmp_path, **own).to_yaml())
    whole, parts = (load_config(tmp_path / "own.yml", [f"log_name={name}"]) for name in ("whole", "parts"))
    Trainer(whole).run()
    run_with_stops(parts, (3, 5))
    assert same(outcome(parts.run_folder), outcome(whole.run_folder))

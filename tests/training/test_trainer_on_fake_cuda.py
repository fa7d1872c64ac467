"""A training step as it would run on a GPU: it never waits for one, and no layout of maps hides copies."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_cuda import DEVICE, Launches, fake_cuda, in_a_child
from tiny_run import tiny_config

from ssiu.bench.gpu_layouts import in_layout
from ssiu.models import build_model
from ssiu.training import distributed, trainer
from ssiu.training.trainer import Trainer


class NoData:
    samples_per_epoch = 1000
    manifest = "none"


_runs = itertools.count()


def step(folder: Path, monkeypatch, layout: str = "padded", **changes) -> SimpleNamespace:
    """The second step of a run."""
    config = {"deterministic": False, "log_name": f"run{next(_runs)}", "threads": 0, **changes}
    monkeypatch.setattr(distributed, "select_device", lambda *_: DEVICE)
    config = tiny_config(folder, **config)
    lr, hr = (torch.zeros(2, 3, s, s, dtype=torch.uint8) for s in (config.patch_size // 2, config.patch_size))
    model = in_layout(build_model(config), layout)  # of real tensors, whose initial values are computed
    monkeypatch.setattr(trainer, "build_model", lambda _: model)

    def second_step() -> dict:
        with fake_cuda(gradients=True):
            run = Trainer(config, stream=NoData())
            run.train_step([(lr, hr)] * config.accumulate)
            with Launches() as launches:
                run.train_step([(lr, hr)] * config.accumulate)
        return launches.figures()

    return in_a_child(second_step)


IDSA_NET = {"model": "IDSANet", "n_feats": 16, "num_heads": 2, "n_blocks": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bf16", "ema_decay": 0.99, "grad_clip": 0.1},
        {"precision": "fp16", "ema_decay": 0.99, "grad_clip": 0.1, "accumulate": 2},
        {"checkpoint_activations": True, "deterministic": True, "ema_decay": 0.99},
        {"optimizer": "muon", "precision": "fp16", "ema_decay": 0.99},
        {**IDSA_NET, "precision": "bf16", "ema_decay": 0.99, "grad_clip": 0.1},
        {**IDSA_NET, "checkpoint_activations": True, "deterministic": True},
    ],
    ids=str,
)
def test_no_step_waits_for_the_device(folder, monkeypatch, changes):
    launches = step(folder, monkeypatch, **changes)
    assert launches.total > 100
    assert launches.blocking == []


def test_a_deterministic_step_scatters_nothing(folder, monkeypatch):
    names = step(folder, monkeypatch, deterministic=True).names
    scattering = ("index_put", "upsample_bilinear2d_backward", "reflection_pad")
    assert not [name for name in names if any(part in name for part in scattering)]


FULL = {"n_feats": 64, "num_heads": 4, "n_blocks": 9, "patch_size": 64}


@pytest.mark.parametrize(
    ("layout", "copies", "mixed"), [("padded", 157, 215), ("planar", 0, 9), ("shifted", 0, 0)]
)  # planar: the gradient of max-pooling, at a quarter of the pixels
def test_the_layouts_that_a_gpu_will_race_make_no_hidden_copies(folder, monkeypatch, layout, copies, mixed):
    launches = step(folder, monkeypatch, layout, **FULL)
    assert launches.layout_copies <= copies
    assert launches.mixed <= mixed

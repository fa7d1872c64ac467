"""The README's "Extend it": a model, a loss and a data set of one's own, each a few lines, trained by the trainer."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import make_data, tiny_config
from torch import Tensor, nn

from ssiu.models import MODELS
from ssiu.models.base import SRNetwork
from ssiu.training.trainer import Trainer
from ssiu.weights.load import load_model


class ESPCN(SRNetwork):
    """Three convolutions and a pixel shuffle."""

    tail_prefixes = ("upsample.",)  # what weights for another scale do not share

    def __init__(self, scale: int, n_feats: int = 64):
        super().__init__(scale, locals())
        self.body = nn.Sequential(
            nn.Conv2d(3, n_feats, 5, padding=2), nn.Tanh(), nn.Conv2d(n_feats, n_feats // 2, 3, padding=1), nn.Tanh()
        )
        self.upsample = nn.Sequential(nn.Conv2d(n_feats // 2, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, lr: Tensor) -> Tensor:
        return self.upsample(self.body(lr))

    @classmethod
    def arguments_from(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any] | None:
        if "upsample.0.weight" not in state_dict:
            return None
        shape = state_dict["upsample.0.weight"].shape
        return {"scale": int((shape[0] // 3) ** 0.5), "n_feats": 2 * shape[1]}


class Charbonnier(nn.Module):
    """A smooth L1 loss, in place of ``SRLoss``: its terms by name, whose sum is minimised."""

    def forward(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        return {"charbonnier": ((sr - hr) ** 2 + 1e-6).sqrt().mean()}


class Stripes:
    """Training data that is made, not read: stripes of any direction. Batch m depends on nothing but m."""

    samples_per_epoch = 8
    manifest = "stripes"  # a resumed run checks that this has not changed

    def batch(self, m: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(m)
        y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        angle = 3 * torch.rand(2, 1, 1, 1, generator=generator)
        hr = ((x * angle.cos() + y * angle.sin()) / 3).sin().mul(0.5).add(0.5).expand(2, 3, 24, 24)
        return nn.functional.avg_pool2d(hr, 2), hr  # (2, 3, 12, 12) and (2, 3, 24, 24), floats in [0, 1]

    def loader(self, start: int, stop: int, *args: Any, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        return map(self.batch, range(start, stop))

    def names(self, m: int) -> list[str]:
        return [f"stripes {m}"]


def losses(trainer: Trainer) -> list[float]:
    """The loss before training, and after."""
    measured = []
    lr, hr = Stripes().batch(10**6)
    for act in (lambda: None, trainer.run):
        act()
        with torch.no_grad():
            measured.append(sum(trainer.loss(trainer.model(lr), hr).values()).item())
    return measured


@pytest.fixture
def espcn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "ESPCN", ESPCN)  # in a file of yours: one line in ssiu/models/__init__.py


def test_a_model_of_ones_own_is_trained_saved_and_used(espcn: None, tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    config = tiny_config(tmp_path, model="ESPCN", num_heads=4, n_blocks=1, max_iterations=30, lr=3e-3)
    trainer = Trainer(config)
    before, after = losses(trainer)
    assert after < 0.8 * before
    model = load_model(config.run_folder / "models/last.pt")
    assert isinstance(model, ESPCN) and model.arguments() == {"scale": 2, "n_feats": 8}


def test_a_loss_and_a_data_set_of_ones_own(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, max_iterations=30, lr=3e-3)
    trainer = Trainer(config, stream=Stripes())
    trainer.loss = Charbonnier()
    before, after = losses(trainer)
    assert after < 0.8 * before
    logged = (config.run_folder / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["charbonnier"] == json.loads(line)["loss"] for line in logged)

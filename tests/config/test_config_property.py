"""A thousand generated configs: each is refused with 78, or its network is built and trains a step."""

import inspect
import random
from typing import Any

import pytest
import torch
from tiny_run import TINY

from ssiu.config.load import make_config
from ssiu.config.schema import Config
from ssiu.errors import ConfigError
from ssiu.models import MODELS
from ssiu.training.trainer import Trainer

VALID: dict[str, list[Any]] = {
    "model": ["SSIU", "SSUFSR", "IDSANet"],
    "scale": [2, 3, 4],
    "n_feats": [16, 32],
    "num_heads": [1, 2, 4],
    "n_blocks": [3, 6],
    "attention": ["sparse", "dense"],
    "moe": [True, False, 0, 1],
    "beta_sign": ["minus", "plus"],
    "skip": ["norm", "raw"],
    "share_group": [0, 1, 2, "none"],
    "smu": ["gconv", "none"],
    "purification": ["lkcipm", "none"],
    "hybrid_attention": ["inham", "none"],
    "patch_size": [12, 24],
    "batch_size": [1, 2],
    "optimizer": ["adamw", "adam", "muon"],
    "lr": [1e-4, 1],
    "muon_lr": [1e-3, 1],
    "betas": [[0.9, 0.99], [0, 0]],
    "weight_decay": [0, 0.1],
    "scheduler": ["cosine", "wsd"],
    "decay_share": [0.1, 1.0],
    "warmup_epochs": [0, 1],
    "warmup_iterations": [0, 2],
    "eta_min": [0, 1e-6],
    "decays": [[], [1, 2]],
    "gamma": [0.1, 1.0],
    "lambda_l1": [0.5, 1],
    "lambda_fft": [0, 0.01],
    "grad_clip": [0, 0.5],
    "accumulate": [1, 2],
    "ema_decay": [0, 0.9],
    "ema_warmup": [True, False],
    "precision": ["fp32", "tf32", "bf16", "fp16"],
    "tile": [0, 32, "auto"],
    "deterministic": [True, False],
    "gpu_ids": [[], 0, [0]],
    "max_iterations": [None, 1, 3],
    "epochs": [2, 5],
    "log_every": [1, 100],
}
ANYTHING = [
    None,
    -1,
    0,
    7,
    1e300,
    -0.5,
    "",
    "x",
    "../x",
    "auto",
    [],
    [1, "a"],
    {},
    {"a": 1},
    True,
    "1e-3",
    2**70,
    b"\x00",
]


class RandomStream:
    """Noise of the shape a config asks for."""

    samples_per_epoch = 4
    manifest = "noise"

    def __init__(self, config: Config):
        self.config = config

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        side = self.config.patch_size
        shapes = [(self.config.batch_size, 3, s, s) for s in (side // self.config.scale, side)]
        return tuple(torch.randint(0, 256, shape, dtype=torch.uint8) for shape in shapes)


def generate(choice: random.Random) -> dict[str, Any]:
    """Valid values for some keys, and in half of the configs one or two of anything, or an unknown key."""
    values = {key: choice.choice(options) for key, options in VALID.items() if choice.random() < 0.5}
    kinds = set(MODELS.values())
    own, *others = sorted(kinds, key=lambda kind: kind is not MODELS[values.get("model", "SSIU")])
    foreign = {key for kind in others for key in inspect.signature(kind).parameters}
    foreign -= set(inspect.signature(own).parameters)
    values = {key: value for key, value in values.items() if key not in foreign}
    if choice.random() < 0.5:
        for _ in range(choice.randint(1, 2)):
            values[choice.choice([*Config.model_fields, "unknown"])] = choice.choice(ANYTHING)
    return values


@pytest.mark.parametrize("configs", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_a_config_is_refused_by_name_or_trains_a_step(tmp_path, configs):
    choice = random.Random(configs)
    valid = 0
    for index in range(configs):
        values = {**TINY, "n_feats": 16, "test_every": 0, **generate(choice)}
        paths = {
            "log_path": str(tmp_path),
            "log_name": str(index),
            "eval_sets": [],
            "validation_set": None,
            "init_trunk": None,
        }
        try:
            config = make_config({**values, **paths, "pretrain": None, "device": "cpu", "compile": False})
            run = Trainer(config, stream=RandomStream(config))
        except ConfigError as error:
            assert error.exit_code == 78 and "\n" not in str(error), values
            continue
        before = [parameter.detach().clone() for parameter in run.model.parameters()]
        run.train_step([run.stream.batch() for _ in range(config.accumulate)])
        moved = any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
        endless = max(config.loss_terms.get(name, 0) for name in ("l1", "fft")) > 1e15  # clipped by an infinite norm
        assert moved or endless or config.precision == "fp16", values  # fp16 may skip its first step
        run.close()
        valid += 1
    assert valid >= configs / 3

"""A network and a data set small enough to train in a test."""

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn
from toy_sets import write_pairs

from ssiu.config.load import make_config
from ssiu.config.schema import Config
from ssiu.data.stream import TrainingData
from ssiu.errors import StoppedError
from ssiu.images.bicubic import imresize
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint


def make_set(folder: Path, count: int = 4, scale: int = 2, size: tuple[int, int] = (40, 48), seed: int = 0) -> Path:
    """Smooth random HR images and their LR in the layout ``folder/{HR,LR_bicubic/X{scale}}``."""
    random = np.random.default_rng(seed)
    images = {
        f"p{index}": imresize(random.integers(0, 256, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8), size=size)
        for index in range(count)
    }
    return write_pairs(folder, images, scale)


def make_data(folder: Path, scale: int = 2) -> Path:
    """``folder`` with a training set `train`, a validation set `val` and a test set `toy`."""
    for index, (name, count) in enumerate((("train", 5), ("val", 2), ("toy", 2))):
        make_set(folder / name, count, scale, seed=index)
    return folder


TINY = {
    "model": "SSIU",
    "scale": 2,
    "n_feats": 8,
    "num_heads": 2,
    "n_blocks": 3,
    "training_dataset": "train",
    "patch_size": 24,
    "batch_size": 2,
    "data_repeat": 2,
    "threads": 0,
    "max_iterations": 6,
    "log_every": 2,
    "save_every": 2,
    "log_name": "run",
    "test_every": 0,
    "eval_sets": [],
    "deterministic": True,
}


def tiny_config(folder: Path, **changes: Any) -> Config:
    """A run in ``folder/logs/run`` on the sets of ``folder/data``; five training images, ten samples an epoch."""
    paths = {"data_path": str(folder / "data"), "log_path": str(folder / "logs"), "cache_dir": str(folder / "cache")}
    return make_config({**TINY, **paths, **changes})


_runs = iter(range(10_000))


def trainer(folder: Path, resume: str = "none", stream: TrainingData | None = None, **changes: Any) -> Trainer:
    """Of `tiny_config`, each in a run folder of its own."""
    changes.setdefault("log_name", f"run{next(_runs)}")
    return Trainer(tiny_config(folder, **changes), resume, stream=stream)


def weights(run: Trainer) -> Tensor:
    """All parameters, one after another."""
    return nn.utils.parameters_to_vector(run.model.parameters()).detach().clone()


def stop_after(run: Trainer, step: int, signum: int = signal.SIGTERM) -> None:
    """The process gets a signal when ``step`` steps are complete."""
    original = run.train_step

    def train_step(batches: list) -> None:
        original(batches)
        if run.step == step:
            os.kill(os.getpid(), signum)

    run.train_step = train_step


def run_with_stops(config: Config, steps: Iterable[int]) -> None:
    """Trains ``config`` to its end; after each of ``steps`` the run is stopped and goes on anew."""
    for step in steps:
        run = Trainer(config, "auto")
        stop_after(run, step)
        with pytest.raises(StoppedError):
            run.run()
    Trainer(config, "auto").run()


TIMING = {"it_per_s", "data_wait", "peak_mib"}


def outcome(run: Path) -> list:
    """The final state without the free keys, and metrics.jsonl without timings."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    state = load_checkpoint(run / "models" / "last.pt")
    for key in ("log_name", "threads", "cache_gb"):
        state["config"].pop(key)
    return [state, [{key: value for key, value in line.items() if key not in TIMING} for line in lines]]

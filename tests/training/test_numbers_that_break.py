"""Overflows, NaN and too little memory: what a run survives, what stops it, and what it says and keeps then."""

import json

import pytest
import torch
from tiny_run import trainer, weights

from ssiu.errors import DeviceMemoryError, NonFiniteError
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint


def test_fp16_scales_the_loss_and_survives_a_few_overflows_but_not_many(folder):
    run = trainer(folder, precision="fp16", max_iterations=100)
    assert run.scaler.is_enabled() and not trainer(folder).scaler.is_enabled()
    batch = next(iter(run.stream.loader(0, 1)))
    before = weights(run)
    for parameter in run.model.tail.parameters():
        parameter.register_hook(lambda gradient: gradient * float("inf"))
    for _ in range(20):
        run.train_step([batch])
    assert torch.equal(weights(run), before)
    run.loss_log.checked(run.step)  # as at a log line
    run.train_step([batch])
    with pytest.raises(NonFiniteError, match="gradient is not finite at step 21"):
        run.loss_log.checked(run.step)


def test_how_often_fp16_looks_at_its_loss_decides_nothing(folder):
    def broken(log_every: int, steps: range) -> Trainer:
        run = trainer(folder, precision="fp16", max_iterations=30, log_every=log_every, save_every=30)
        original = run.train_step

        def train_step(batches):
            original([(lr.float() * float("nan"), hr) for lr, hr in batches] if run.step in steps else batches)

        run.train_step = train_step
        return run

    every, second = (broken(log_every, range(3, 7)) for log_every in (1, 2))
    for run in (every, second):
        run.run()
    assert torch.equal(weights(every), weights(second))
    for log_every in (1, 2):
        with pytest.raises(NonFiniteError, match=r"gradient is not finite at step 2[45]"):
            broken(log_every, range(3, 30)).run()


@pytest.mark.parametrize("broken", ["input", "weight", "rate"])
def test_a_non_finite_loss_stops_the_run_and_names_step_and_images(folder, broken):
    run = trainer(folder, max_iterations=20, log_every=4, save_every=4, lr=1e-3)
    if broken == "rate":
        run.config = run.config.model_copy(update={"lr": 1e25})
        run.schedule = type(run.schedule)(run.config, run.stream.samples_per_epoch)
    original = run.train_step

    def train_step(batches):
        if run.step == 5 and broken == "input":
            batches = [(lr.float() / 255 * float("nan"), hr) for lr, hr in batches]
        if run.step == 5 and broken == "weight":
            next(run.model.parameters()).data.view(-1)[0] = float("nan")
        original(batches)

    run.train_step = train_step
    with pytest.raises(NonFiniteError, match=r"not finite at step \d+ \(train/p\d") as caught:
        run.run()
    assert caught.value.exit_code == 70
    assert broken == "rate" or "models/last.pt (step 4) is sound: lower lr" in str(caught.value)
    report = json.loads((run.config.run_folder / "non_finite.json").read_text())
    if broken != "rate":
        assert report["step"] == 6
        assert report["images"]["6"] == run.stream.names(5)
    for path in (run.config.run_folder / "models").glob("*.pt"):
        state = load_checkpoint(path)
        assert all(t.isfinite().all() for t in state["model"].values())


def test_weights_broken_by_the_last_step_before_a_save_are_not_saved(folder):
    run = trainer(folder, save_every=3, log_every=100)
    original = run.train_step

    def train_step(batches):
        original(batches)
        if run.step == 3:
            next(run.model.parameters()).data.view(-1)[0] = float("inf")

    run.train_step = train_step
    with pytest.raises(NonFiniteError, match=r"step 3 .*; no checkpoint was written yet: lower lr"):
        run.run()
    assert not list((run.config.run_folder / "models").glob("*.pt"))


@pytest.mark.parametrize("where", ["forward", "backward", "optimizer"])
def test_out_of_memory_names_the_keys_to_lower(folder, where):
    run = trainer(folder, save_every=1)

    def fail(*args, **kwargs):
        if run.step == 3:
            raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    hooks = {
        "forward": lambda: run.model.register_forward_pre_hook(fail),
        "backward": lambda: next(run.model.parameters()).register_hook(fail),
        "optimizer": lambda: run.optimizer.register_step_pre_hook(fail),
    }
    hooks[where]()
    with pytest.raises(DeviceMemoryError, match=r"batch_size 2 and patch_size 24.*lower batch_size") as caught:
        run.run()
    assert caught.value.exit_code == 69
    assert load_checkpoint(run.config.run_folder / "models/last.pt")["step"] == 3

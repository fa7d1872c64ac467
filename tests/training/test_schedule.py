"""The learning rate of every step, written out, and the length of a run."""

import math

import pytest
import torch

from ssiu.config.load import make_config
from ssiu.errors import ConfigError
from ssiu.training.schedule import Schedule


def schedule(samples: int = 100, **keys) -> Schedule:
    keys = {"batch_size": 10, "lr": 1e-3, "eta_min": 1e-6, "epochs": 10, **keys}
    return Schedule(make_config(keys), samples)


def test_the_papers_run_is_1000500_iterations():
    paper = Schedule(make_config({}), 3450 * 40)
    assert paper.total_steps == 1_000_500
    assert [paper.epoch(s) for s in (0, 3449, 3450, 1_000_499)] == [0, 0, 1, 289]


def test_cosine_by_epochs_equals_torchs_scheduler():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, 1e-6)
    ours = schedule()
    for step in range(ours.total_steps):
        assert ours.learning_rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        if (step + 1) % 10 == 0:
            optimizer.step()
            reference.step()


def test_cosine_over_iterations_starts_at_lr_and_ends_near_eta_min():
    ours = schedule(max_iterations=1000)
    assert ours.total_steps == 1000
    assert ours.learning_rate(0) == 1e-3
    assert ours.learning_rate(500) == pytest.approx((1e-3 + 1e-6) / 2)
    assert ours.learning_rate(999) == pytest.approx(1e-6, abs=3e-9)
    assert all(ours.learning_rate(s) > ours.learning_rate(s + 1) for s in range(999))


def test_warmup_epoch_k_runs_at_k_parts_of_lr_then_the_cosine_takes_the_rest():
    ours = schedule(epochs=6, warmup_epochs=2)
    rates = [ours.learning_rate(10 * epoch) for epoch in range(6)]
    cosine = [1e-6 + (1e-3 - 1e-6) * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)]
    assert rates == pytest.approx([0.5e-3, 1e-3, *cosine])
    assert ours.learning_rate(9) == ours.learning_rate(0)


def test_warmup_within_max_iterations():
    ours = schedule(max_iterations=100, warmup_epochs=2)
    assert [ours.learning_rate(s) for s in (0, 9, 10, 19, 20)] == pytest.approx([0.5e-3, 0.5e-3, 1e-3, 1e-3, 1e-3])
    assert ours.learning_rate(60) == pytest.approx((1e-3 + 1e-6) / 2)


@pytest.mark.parametrize("max_iterations", [1, 20])
def test_a_warmup_that_max_iterations_does_not_outlast_is_refused(max_iterations):
    with pytest.raises(ConfigError, match=f"warmup_epochs 2 are 20 iterations .* max_iterations {max_iterations}:"):
        schedule(max_iterations=max_iterations, warmup_epochs=2)
    assert schedule(max_iterations=21, warmup_epochs=2).learning_rate(20) == 1e-3


def test_multistep_multiplies_by_gamma_after_each_decay():
    ours = schedule(scheduler="multistep", decays=[2, 5], gamma=0.1)
    rates = [ours.learning_rate(10 * epoch) for epoch in range(7)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5])


def test_milestones_are_iterations_and_one_given_twice_counts_twice():
    ours = schedule(scheduler="multistep", milestones=[4, 7, 7], gamma=0.1, max_iterations=9)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, [4, 7, 7], 0.1)
    for step in range(9):
        assert ours.learning_rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        reference.step()


def test_each_restart_is_a_cosine_of_its_own_that_reaches_eta_min_before_the_next_begins():
    ours = schedule(scheduler="restarts", periods=[4, 2, 3], restart_weights=[1, 0.5, 2], max_iterations=12)

    def cosine(weight, length, steps):
        return [1e-6 + weight * (1e-3 - 1e-6) * (1 + math.cos(math.pi * t / length)) / 2 for t in steps]

    expected = cosine(1, 4, range(5)) + cosine(0.5, 2, [1, 2]) + cosine(2, 3, [1, 2, 3]) + [1e-6] * 2
    assert [ours.learning_rate(s) for s in range(12)] == pytest.approx(expected)
    one, plain = schedule(scheduler="restarts", periods=[12], max_iterations=12), schedule(max_iterations=12)
    assert [one.learning_rate(s) for s in range(12)] == pytest.approx([plain.learning_rate(s) for s in range(12)])


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"scheduler": "restarts", "periods": [20]},
        {"scheduler": "multistep", "milestones": [8]},
        {"scheduler": "constant"},
        {"max_iterations": None, "epochs": 3},
    ],
    ids=str,
)
def test_a_warmup_in_iterations_covers_the_first_ones_and_shifts_nothing(keys):
    keys = {"max_iterations": 20, **keys}
    without, ours = schedule(**keys), schedule(warmup_iterations=4, **keys)
    assert [ours.learning_rate(s) for s in range(3)] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3])
    assert [ours.learning_rate(s) for s in range(3, 20)] == [without.learning_rate(s) for s in range(3, 20)]
    with pytest.raises(ConfigError, match=f"warmup_iterations {ours.total_steps} leave nothing"):
        schedule(warmup_iterations=ours.total_steps, **keys)


def test_wsd_is_constant_until_the_last_share_then_falls_in_a_line_to_eta_min():
    by_steps = schedule(scheduler="wsd", decay_share=0.4, max_iterations=100)
    fall = [1e-6 + (1e-3 - 1e-6) * (1 - t / 40) for t in range(41)]
    assert [by_steps.learning_rate(s) for s in range(101)] == pytest.approx([1e-3] * 60 + fall)
    by_epochs = schedule(scheduler="wsd", decay_share=0.4)  # 10 epochs of 10 steps
    assert [by_epochs.learning_rate(s) for s in range(60)] == [1e-3] * 60
    assert [by_epochs.learning_rate(s) for s in range(60, 100)] == pytest.approx(
        [fall[s // 10 * 10] for s in range(40)]
    )


def test_wsd_takes_its_share_of_what_the_warmup_leaves():
    ours = schedule(scheduler="wsd", decay_share=0.5, max_iterations=100, warmup_epochs=2)  # 20 steps; 40 fall
    fall = [1e-6 + (1e-3 - 1e-6) * (1 - t / 40) for t in range(41)]
    expected = [0.5e-3] * 10 + [1e-3] * 10 + [1e-3] * 40 + fall
    assert [ours.learning_rate(s) for s in range(101)] == pytest.approx(expected)


def test_wsd_over_the_whole_run_is_one_line():
    ours = schedule(scheduler="wsd", decay_share=1.0, eta_min=0.0, max_iterations=10)
    assert [ours.learning_rate(s) for s in range(11)] == pytest.approx([1e-3 * (1 - s / 10) for s in range(11)])


@pytest.mark.parametrize("length", [{}, {"max_iterations": 60}], ids=["epochs", "steps"])
def test_constant_is_lr_after_the_warmup(length):
    ours = schedule(scheduler="constant", warmup_epochs=2, **length)
    assert [ours.learning_rate(s) for s in range(60)] == pytest.approx([0.5e-3] * 10 + [1e-3] * 50)


def test_batches_run_on_over_the_end_of_an_epoch():
    ours = schedule(samples=25, epochs=2)  # 50 samples, 10 a step
    assert ours.total_steps == 5
    assert [ours.epoch(s) for s in range(5)] == [0, 0, 0, 1, 1]


def test_accumulate_counts_optimizer_steps():
    assert schedule(accumulate=2, epochs=2).total_steps == 10
    assert schedule(accumulate=2).samples_per_step == 20


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"epochs": 4, "test_every": 1}, [10, 20, 30, 40]),
        ({"epochs": 5, "test_every": 2}, [20, 40, 50]),
        ({"max_iterations": 50}, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]),
        ({"max_iterations": 3}, [1, 2, 3]),
        ({"max_iterations": 50, "test_every": 0}, []),
        ({"epochs": 4, "validate_every": 15}, [15, 30, 40]),
        ({"epochs": 4, "validate_every": 10, "test_every": 3}, [10, 20, 30, 40]),
        ({"epochs": 2, "validate_every": 8, "test_every": 0}, [8, 16, 20]),
        ({"max_iterations": 50, "validate_every": 20}, [20, 40, 50]),
        ({"max_iterations": 50, "validate_every": 25, "test_every": 0}, [25, 50]),
        ({"max_iterations": 50, "validate_every": 1000}, [50]),
    ],
)
def test_validations_are_equally_spaced_and_include_the_end(keys, expected):
    ours = schedule(**keys)
    assert [step for step in range(ours.total_steps + 1) if ours.validates(step)] == expected
    for step in range(ours.total_steps + 1):
        assert ours.validations_after(step) == sum(later > step for later in expected)
    assert ours.config.validates == bool(expected)

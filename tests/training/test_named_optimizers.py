"""An optimizer that the config names: it gets lr and its arguments, follows the schedule, and resumes bit for bit."""

from pathlib import Path

import pytest
import torch
from tiny import same
from tiny_run import outcome, run_with_stops, tiny_config, trainer
from torch import Tensor, nn

from ssiu.config.load import load_config, make_config
from ssiu.errors import ConfigError
from ssiu.training.optimizers import build_optimizer
from ssiu.training.trainer import Trainer
from ssiu.weights.load import load_model

OWN = """
import torch

class Sign(torch.optim.Optimizer):
    def __init__(self, params, lr, growth=float("inf")):
        super().__init__(params, {"lr": lr, "growth": growth, "rule": torch.sign, "seen": 0})
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["seen"] += 1
            for p in group["params"]:
                self.state[p].setdefault("past", [None, []])[1].append(p.grad.clone())
                mean = torch.stack(self.state[p]["past"][1]).mean(0)
                p -= group["lr"] / group["seen"] * min(1.0, group["growth"]) * group["rule"](mean)
"""
SCHEDULE_FREE = {
    "scheduler": "constant", "warmup_epochs": 2, "batch_size": 4, "optimizer_args": {"betas": [0.8, 0.99]},
}  # fmt: skip
SOAP = {"precondition_frequency": 2, "weight_decay": 0.01}


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.fixture
def own(folder: Path) -> str:
    (folder / "my_optimizer.py").write_text(OWN)
    return f"{folder}/my_optimizer.py:Sign"


# what reaches it


def test_it_gets_the_rate_of_the_schedule_and_its_own_arguments(folder):
    arguments = {"betas": [0.5, 0.9], "weight_decay": 0.1, "decoupled_weight_decay": True}
    run = trainer(folder, optimizer="torch.optim:NAdam", optimizer_args=arguments)
    theirs = trainer(folder)
    reference = torch.optim.NAdam(theirs.model.parameters(), lr=1.0, **arguments)
    for step, batch in enumerate(run.stream.loader(0, 6)):
        run.train_step([batch])
        reference.param_groups[0]["lr"] = run.schedule.learning_rate(step)
        reference.zero_grad()
        lr, hr = (image / 255 for image in batch)
        sum(theirs.loss(theirs.model(lr), hr).values()).backward()
        reference.step()
    assert (weights(run.model) - weights(theirs.model)).abs().max() <= 1e-7


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"optimizer": "torch.optim:NAdam", "betas": [0.9, 0.99]}, "do not reach torch.optim:NAdam: .*optimizer_args"),
        ({"optimizer": "torch.optim:NAdam", "weight_decay": 1e-4}, "do not reach torch.optim:NAdam: .*optimizer_args"),
        ({"optimizer": "torch.optim:NAdam", "optimizer_args": {"lr": 1e-3}}, "lr is a key of its own"),
        ({"optimizer": "adamw", "optimizer_args": {"eps": 1e-6}}, "adamw takes .* no optimizer_args"),
        ({"optimizer": "adamw", "betas": None}, "two numbers in"),
        ({"optimizer": "adamw", "weight_decay": None}, "adamw takes a number weight_decay"),
        ({"optimizer": "lion"}, "'optimizer': expected adamw, adam, muon, or package.module:Class"),
        ({"optimizer": "torch.optim:NAdams"}, "torch.optim:NAdams: .*has no class NAdams"),
        ({"optimizer": "torch.nn:Linear"}, "has no class Linear derived from Optimizer"),
        ({"optimizer": "nowhere.at_all:Lion"}, "there is no module 'nowhere'"),
        ({"optimizer": "torch.optim:NAdam", "optimizer_args": {"beta": 1}}, "cannot be built .*'beta'"),
        ({"optimizer": "torch.optim:LBFGS"}, "its step needs a closure"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(keys, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(nn.Linear(2, 2), make_config(keys))


def test_the_command_line_names_one_over_a_file_with_adams_numbers(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text("optimizer: adamw\nbetas: [0.9, 0.99]\nweight_decay: 1e-4\n")
    config = load_config(path, ["optimizer=torch.optim:NAdam", "optimizer_args={momentum_decay: 0.01}"])
    (group,) = build_optimizer(nn.Linear(2, 2), config).param_groups
    assert (group["betas"], group["weight_decay"], group["momentum_decay"]) == ((0.9, 0.999), 0, 0.01)
    assert make_config(config.model_dump(mode="json")) == config
    assert load_config(path, ["optimizer=adam"]).betas == (0.9, 0.99)


# stopped and resumed


def assert_resumes_bit_for_bit(folder: Path, name: str, **keys: object) -> None:
    keys = {"max_iterations": 7, "log_every": 3, "save_every": 3, **keys}
    whole, parts = (tiny_config(folder, log_name=f"{name}_{part}", **keys) for part in ("whole", "parts"))
    Trainer(whole).run()
    run_with_stops(parts, (2, 4))
    assert same(outcome(whole.run_folder), outcome(parts.run_folder))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torchs_own_resumes_bit_for_bit(folder, precision):
    assert_resumes_bit_for_bit(folder, f"nadam_{precision}", optimizer="torch.optim:NAdam", precision=precision)


def test_one_with_nested_state_and_settings_that_no_file_holds_resumes_bit_for_bit(folder, own):
    assert_resumes_bit_for_bit(folder, "own", optimizer=own, lr=1e-2)


def test_soap_resumes_bit_for_bit(folder):
    pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is not installed (the extra dev has it)")
    assert_resumes_bit_for_bit(folder, "soap", optimizer="pytorch_optimizer:SOAP", optimizer_args=SOAP)


def test_other_arguments_hold_from_the_resumed_step_and_progress_is_kept(folder, own):
    run = trainer(folder, optimizer=own, max_iterations=4)
    run.run()
    changed = run.config.model_copy(update={"optimizer_args": {"growth": 0.5}, "log_name": "own_changed"})
    half = str(run.config.run_folder / "models/step_00000002.pt")
    with pytest.raises(ConfigError, match=r"optimizer_args: \{\} -> \{'growth': 0.5\}"):
        Trainer(changed, half)
    resumed = Trainer(changed, half, allow_changes=True)
    assert (resumed.optimizer.param_groups[0]["growth"], resumed.optimizer.param_groups[0]["seen"]) == (0.5, 2)


def test_another_optimizer_starts_from_zero_with_a_warning(folder, own, caplog):
    run = trainer(folder, optimizer=own, max_iterations=2)
    run.run()
    last = str(run.config.run_folder / "models/last.pt")
    other = {"optimizer": "torch.optim:NAdam", "max_iterations": 4}
    again = Trainer(tiny_config(folder, log_name="own_other", **other), last, allow_changes=True)
    assert "its moments start from zero" in caplog.text
    assert again.run().startswith("finished: 2 iterations, 4 in all")


# schedule-free


@pytest.fixture
def schedule_free() -> str:
    pytest.importorskip("schedulefree", reason="schedulefree is not installed (the extra dev has it)")
    return "schedulefree:AdamWScheduleFree"


def test_a_schedule_free_run_is_validated_and_used_by_its_average_and_trains_on(folder, schedule_free):
    from schedulefree import AdamWScheduleFree

    keys = {"optimizer": schedule_free, "max_iterations": 7, "validation_set": "val", "validate_every": 3}
    run, theirs = (trainer(folder, **keys, **SCHEDULE_FREE) for _ in range(2))
    reference = AdamWScheduleFree(theirs.model.parameters(), lr=1.0, betas=(0.8, 0.99))
    reference.train()
    for step, batch in enumerate(theirs.stream.loader(0, 7)):
        reference.param_groups[0]["lr"] = theirs.schedule.learning_rate(step)
        reference.zero_grad()
        lr, hr = (image / 255 for image in batch)
        sum(theirs.loss(theirs.model(lr), hr).values()).backward()
        reference.step()
    theirs.close()
    run.run()
    assert torch.equal(weights(run.model), weights(theirs.model)), "neither validating nor saving moves what trains"
    reference.eval()
    used = load_model(run.config.run_folder / "models/last.pt")
    assert torch.equal(weights(used), weights(theirs.model)) and not torch.equal(weights(used), weights(run.model))


def test_a_schedule_free_run_resumes_bit_for_bit(folder, schedule_free):
    keys = {"optimizer": schedule_free, "validation_set": "val", "validate_every": 2, **SCHEDULE_FREE}
    assert_resumes_bit_for_bit(folder, "schedule_free", **keys)


@pytest.mark.parametrize("change", [{"scheduler": "cosine"}, {"ema_decay": 0.9}], ids=str)
def test_a_schedule_or_an_average_beside_it_is_refused(folder, schedule_free, change):
    with pytest.raises(ConfigError, match="averages the weights itself: set scheduler=constant and ema_decay=0"):
        trainer(folder, optimizer=schedule_free, **{**SCHEDULE_FREE, **change})

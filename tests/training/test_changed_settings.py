"""What a resumed run keeps and what it takes from new settings: an older version's checkpoint, --allow-changes."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_run import tiny_config
from torch import Tensor, nn

from ssiu.errors import ConfigError
from ssiu.training.optimizers import Muon
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint, save_checkpoint

OLD = {"max_iterations": 6, "save_every": 2, "ema_decay": 0.9}  # the run of checkpoint_f7a8675.pt


@pytest.fixture(scope="module")
def started(folder) -> Callable[..., Path]:
    """Makes the checkpoint of a run stopped after step 2, the same for equal settings."""
    made: dict[str, Path] = {}

    def start(**changes: object) -> Path:
        name = "-".join(map(str, ["started", *changes.values()]))
        if name not in made:
            run = Trainer(tiny_config(folder, log_name=name, **changes))
            for batch in run.stream.loader(0, 2):
                run.train_step([batch])
            made[name] = run.config.run_folder / "models/last.pt"
            run.checkpoints.save(run._state())
            run.close()
        return made[name]

    return start


# a checkpoint written before muon_lr and decay_share existed, by commit f7a8675


def test_an_older_versions_checkpoint_goes_on_and_ends_as_a_run_of_today(folder, reference, caplog):
    fresh = Trainer(tiny_config(folder, log_name="fresh", **OLD))
    fresh.run()
    config = tiny_config(folder, log_name="older", **OLD)
    (config.run_folder / "models").mkdir(parents=True)
    older = load_checkpoint(reference / "checkpoint_f7a8675.pt")
    older["data"] = fresh.stream.manifest  # the same pixels, but encoded by the PNG writer of today
    save_checkpoint(config.run_folder / "models/last.pt", older)
    run = Trainer(config, "auto")
    assert run.step == 4 and "muon_lr" not in older["config"]
    before = nn.utils.parameters_to_vector(run.model.parameters()).detach().clone()
    assert run.run().startswith("finished: 2 iterations, 6 in all")
    ends = [load_checkpoint(c.run_folder / "models/last.pt") for c in (config, fresh.config)]
    for part in ("model", "ema"):
        assert ends[0][part].keys() == ends[1][part].keys()
        for name, tensor in ends[0][part].items():
            assert torch.allclose(tensor, ends[1][part][name], rtol=0, atol=1e-5), name
    assert (nn.utils.parameters_to_vector(run.model.parameters()) - before).abs().max() > 1e-4
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [message for message in warnings if "LR patches of" not in message] == []  # they are small in tests


def test_keys_an_older_checkpoint_lacks_were_their_defaults(folder, reference):
    checkpoint = str(reference / "checkpoint_f7a8675.pt")
    config = tiny_config(folder, log_name="lacks", **OLD, muon_lr=0.01, decay_share=0.3)  # 0.3 is the default
    with pytest.raises(ConfigError, match=r"other settings: muon_lr: 0.006 -> 0.01; --allow-changes"):
        Trainer(config, checkpoint)


# --allow-changes


def next_step(folder: Path, checkpoint: Path, **changes: object) -> tuple[nn.Module, nn.Module, Trainer]:
    """The network before and after the first step with ``changes``; the former keeps the gradients of that step."""
    config = tiny_config(folder, log_name=f"on-{checkpoint.parts[-3]}-{changes}".replace("/", ""), **changes)
    run = Trainer(config, str(checkpoint), allow_changes=True)
    before = copy.deepcopy(run.model)

    def keep(*_: object) -> None:
        for kept, p in zip(before.parameters(), run.model.parameters(), strict=True):
            kept.grad = p.grad.clone()

    run.optimizer.register_step_pre_hook(keep)
    (batch,) = run.stream.loader(run.step, run.step + 1)
    run.train_step([batch])
    run.close()
    return before, run.model, run


def stepped(kind: type, before: nn.Module, checkpoint: Path, rate: float, **numbers: object) -> Tensor:
    """The weights one step after ``before`` by torch's own optimizer with the checkpoint's moments."""
    model, state = copy.deepcopy(before), load_checkpoint(checkpoint)["optimizer"]["state"]
    optimizer = kind(model.parameters(), lr=rate, **numbers)
    for (index, p), kept in zip(enumerate(model.parameters()), before.parameters(), strict=True):
        p.grad = kept.grad.clone()
        optimizer.state[p] = {name: tensor.clone() for name, tensor in state[index].items()}
    optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"weight_decay": 0.5}, torch.optim.AdamW),
        ({"betas": [0.5, 0.8]}, torch.optim.AdamW),
        ({"optimizer": "adam", "weight_decay": 0.5}, torch.optim.Adam),
        ({"optimizer": "adam", "weight_decay": 1e-4, "lr": 5e-4}, torch.optim.Adam),
    ],
    ids=str,
)
def test_the_next_step_uses_the_new_numbers_and_the_old_moments(folder, started, change, kind):
    checkpoint = started()
    before, after, run = next_step(folder, checkpoint, **change)
    rate = run.schedule.learning_rate(2)
    assert rate == pytest.approx(change.get("lr", 1e-3) * 0.75, rel=1e-2)  # two sixths of the cosine
    found = nn.utils.parameters_to_vector(after.parameters()).detach()
    new = {"betas": tuple(change.get("betas", (0.9, 0.99))), "weight_decay": change.get("weight_decay", 1e-4)}
    expected = stepped(kind, before, checkpoint, rate, **new)
    old = stepped(torch.optim.AdamW, before, checkpoint, 0.75e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    assert (found - expected).abs().max() <= 1e-6
    assert (found - old).abs().max() >= 1e-5


def test_adamw_goes_on_as_muon_with_a_warning_and_moments_from_zero(folder, started, caplog):
    checkpoint = started()
    before, after, run = next_step(folder, checkpoint, optimizer="muon", muon_lr=0.01, weight_decay=0.1)
    assert "changed since" in caplog.text and "its moments start from zero" in caplog.text
    gradients = [p.grad for p in before.parameters()]
    rate = run.schedule.learning_rate(2)
    expected = copy.deepcopy(before)
    for p, gradient in zip(expected.parameters(), gradients, strict=True):
        p.grad = gradient.clone()
    decays = {"weight_decay": 0.1, "muon_weight_decay": 0.05}
    Muon(expected, lr=rate, muon_lr=10 * rate, betas=(0.9, 0.99), **decays).step()
    for (name, p), q in zip(after.named_parameters(), expected.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-6), name
    assert any((p - q).abs().max() > 1e-3 for p, q in zip(after.parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize("kinds", [("adamw", "muon"), ("muon", "adamw"), ("muon", "adam")], ids="-".join)
def test_a_run_whose_optimizer_was_changed_finishes_and_is_then_one_of_the_new_kind(folder, started, caplog, kinds):
    checkpoint = started(optimizer=kinds[0])
    config = tiny_config(folder, log_name="-".join(kinds), optimizer=kinds[1])
    run = Trainer(config, str(checkpoint), allow_changes=True)
    assert "its moments start from zero" in caplog.text
    assert run.run().startswith("finished: 4 iterations, 6 in all")
    caplog.clear()
    again = Trainer(config, "auto")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [message for message in warnings if "LR patches of" not in message] == []  # they are small in tests
    assert again.run().startswith("already complete: 6 iterations")
    steps = [float(state["step"]) for state in again.optimizer.state.values() if "step" in state]
    assert steps and set(steps) == {4.0}


def test_muons_new_rate_holds_from_the_next_step(folder, started):
    checkpoint = started(optimizer="muon")
    moves = []
    for muon_lr in (6e-3, 12e-3):
        before, after, run = next_step(folder, checkpoint, optimizer="muon", muon_lr=muon_lr)
        matrices = {id(p) for group in run.optimizer.param_groups[:-1] for p in group["params"]}
        pairs = zip(after.parameters(), before.parameters(), strict=True)
        moves.append(torch.cat([(p - q).detach().flatten() for p, q in pairs if id(p) in matrices]))
    assert (moves[1] - 2 * moves[0]).norm() <= 1e-3 * moves[0].norm()


def test_an_average_that_begins_on_resume_begins_with_the_weights_reached(folder, started):
    run = Trainer(tiny_config(folder, log_name="average", ema_decay=0.9), str(started()), allow_changes=True)
    for p, q in zip(run.ema.module.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(p, q)
    run.close()


@pytest.mark.parametrize("change", [{"n_blocks": 6}, {"n_feats": 16}, {"model": "IDSANet", "n_feats": 16}], ids=str)
def test_another_network_cannot_be_resumed(folder, started, change):
    config = tiny_config(folder, log_name=f"other{change}".replace("/", ""), **change)
    with pytest.raises(ConfigError, match="holds another network than the config"):
        Trainer(config, str(started()), allow_changes=True)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precisions", [("fp32", "fp16"), ("fp16", "fp32"), ("bf16", "fp16")], ids="-".join)
def test_precision_may_change_on_resume(folder, started, precisions, optimizer):
    checkpoint = started(precision=precisions[0], optimizer=optimizer)
    config = tiny_config(
        folder, log_name=f"{optimizer}-{'-'.join(precisions)}", precision=precisions[1], optimizer=optimizer
    )
    run = Trainer(config, str(checkpoint), allow_changes=True)
    assert run.scaler.is_enabled() == (precisions[1] == "fp16")
    before = nn.utils.parameters_to_vector(run.model.parameters()).detach().clone()
    assert run.run().startswith("finished: 4 iterations, 6 in all")
    after = nn.utils.parameters_to_vector(run.model.parameters()).detach()
    assert after.isfinite().all() and (after - before).abs().max() > 1e-4
    assert Trainer(config, "auto").run().startswith("already complete: 6 iterations")

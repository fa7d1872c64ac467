"""The training loop: the original's losses, what each key changes, and what stops it."""

import json
import shlex

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import trainer, weights
from torch import nn
from torch.nn import functional as F
from toy_sets import write_pairs

from ssiu.cli import test as test_command
from ssiu.data.test_sets import load_test_sets
from ssiu.errors import (
    BadInputError,
    BusyError,
    ConfigError,
    MissingInputError,
    OutputError,
)
from ssiu.evaluation.evaluate import evaluate
from ssiu.inference.networks import Bicubic
from ssiu.models import build_model
from ssiu.models.ssiu import from_authors
from ssiu.training.run_log import log_start
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint
from ssiu.weights.formats import save_weights
from ssiu.weights.load import load_model, load_weights


def steps(run: Trainer, count: int) -> Trainer:
    for batch in list(run.stream.loader(0, count * run.config.accumulate)):
        run.train_step([batch])
    return run


def losses(run: Trainer) -> torch.Tensor:
    """(steps, loss and terms)."""
    return torch.tensor([list(map(float, step.values())) for step in run.loss_log.steps])


def metrics(run: Trainer, kind: str) -> list[dict]:
    lines = (run.config.run_folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


@pytest.fixture(scope="module")
def six_steps(folder):
    """The weights after six steps of the usual run."""
    return weights(steps(trainer(folder), 6))


class GoldenStream:
    """The recorded batches of the original's four steps."""

    samples_per_epoch = 2
    manifest = "golden"

    def __init__(self, golden):
        self.batches = [
            (torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(golden["x"], golden["y"], strict=True)
        ]

    def loader(self, start, stop, *args, **kwargs):
        return self.batches[start:stop]

    def names(self, m):
        return ["recorded"] * 2


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_four_steps_equal_those_of_the_original_code(folder, reference, scale):
    golden = np.load(reference / f"train_tiny_x{scale}.npz")
    initial = {name[5:]: torch.from_numpy(golden[name]) for name in golden.files if name.startswith("init/")}
    run = trainer(
        folder, scale=scale, patch_size=16 * scale, num_heads=4, epochs=290, max_iterations=None,
        stream=GoldenStream(golden),
    )  # fmt: skip
    run.model.load_state_dict(from_authors(initial))
    for index, batch in enumerate(run.stream.batches):
        run.train_step([batch])
        for name in ("loss", "l1", "fft"):
            assert run.loss_log.steps[-1][name].item() == pytest.approx(golden[name][index], rel=1e-5)
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(golden["lr"][index], rel=1e-9)
    final = load_model(reference / f"official_tiny_x{scale}.pt").state_dict()
    for name, tensor in run.model.state_dict().items():
        assert (tensor - final[name]).abs().max() <= 1e-5, name


def test_a_run_writes_its_folder_and_a_checkpoint_readable_without_code(folder):
    run = trainer(folder, eval_sets=["toy"], validation_set="val", test_every=1, max_iterations=4, ema_decay=0.9)
    message = run.run()
    home = run.config.run_folder
    assert message == f"finished: 4 iterations, 4 in all, {home}/models/last.pt"
    assert {"config.yml", "log.txt", "metrics.jsonl", "models", "tensorboard", "results"} <= {
        p.name for p in home.iterdir()
    }
    assert torch.load(home / "models/last.pt", weights_only=True)["step"] == 4
    train = metrics(run, "train")
    assert [line["step"] for line in train] == [2, 4]
    assert {"loss", "l1", "fft", "lr", "it_per_s", "data_wait", "peak_mib"} <= set(train[0])
    assert [line["step"] for line in metrics(run, "validation")] == [1, 2, 3, 4]
    strips = home / "results/validation"
    assert sorted(str(p.relative_to(strips)) for p in strips.rglob("*.png")) == [
        "toy/p0.png",
        "toy/p1.png",
        "val/p0.png",
        "val/p1.png",
    ]
    log = (home / "log.txt").read_text()
    assert "command:" in log and "torch" in log and "device: cpu" in log and "ETA" in log


def test_the_log_ends_with_the_best_state_and_a_command_that_scores_it(folder, tmp_path, capsys):
    run = trainer(folder, eval_sets=["toy"], validation_set="val", test_every=1, max_iterations=2)
    run.run()
    home = run.config.run_folder
    best, command = [line.partition(" INFO ")[2] for line in (home / "log.txt").read_text().splitlines()[-2:]]
    score = run.checkpoints.best_score
    assert best == f"best: PSNR {score['psnr']:.3f} dB on val at step {score['step']}, {home}/models/best.pt"
    program, arguments = command.split(" test ", 1)
    assert program == "score it: python -m ssiu"
    test_command.main([*shlex.split(arguments), "--output", str(tmp_path / "results")])
    assert "toy" in capsys.readouterr().out
    summary = json.loads((tmp_path / "results/summary.json").read_text())
    assert summary["checkpoint"] == f"{home}/models/best.pt"


def test_tensorboard_has_the_config_both_rates_and_bicubic(folder):
    run = trainer(folder, optimizer="muon", validation_set="val", test_every=1, max_iterations=2)
    run.run()
    events = EventAccumulator(str(run.config.run_folder / "tensorboard"), {"tensors": 0, "scalars": 0}).Reload()
    assert b"muon_lr: 0.006" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    rates = [[event.value for event in events.Scalars(f"train/{name}")] for name in ("lr", "muon_lr")]
    assert rates[1] == pytest.approx([6 * rate for rate in rates[0]])
    bicubic = evaluate(Bicubic(2), run.validation.sets, protocols=("standard",)).mean("val").psnr
    assert [event.value for event in events.Scalars("validation/bicubic/val")] == pytest.approx([bicubic] * 2)
    assert f"(bicubic {bicubic:.3f})" in (run.config.run_folder / "log.txt").read_text()


def test_the_best_checkpoint_is_chosen_on_the_validation_set_alone(folder):
    run = trainer(folder, eval_sets=["toy"], validation_set="val", test_every=1, max_iterations=6)
    run.run()
    scores = {line["step"]: line["psnr/val"] for line in metrics(run, "validation")}
    best = load_checkpoint(run.config.run_folder / "models/best.pt")
    assert best["step"] == max(scores, key=scores.get)
    assert best["best"]["psnr"] == max(scores.values())


def test_a_test_set_never_chooses_under_another_name(folder):
    (folder / "data/alias").symlink_to("val")
    with pytest.raises(ConfigError, match=r"'validation_set' \(never select on a test set\): alias in .*/val"):
        trainer(folder, eval_sets=["toy", "alias"], validation_set="val", test_every=1)


@pytest.mark.parametrize("name", ["Set5", "SET14", "urban100 mod12"])
def test_a_usual_test_set_never_chooses_though_it_is_not_tested_on(folder, name):
    with pytest.raises(ConfigError, match=f"key 'validation_set': {name} is a test set.*hold out"):
        trainer(folder, eval_sets=[], validation_set=name, test_every=1)


def test_a_set_to_choose_on_that_nothing_validates_is_said_and_trains(folder, caplog):
    run = trainer(folder, validation_set="val", test_every=0, max_iterations=1)
    run.run()
    assert not (run.config.run_folder / "models/best.pt").exists()
    assert "val chooses no best.pt; set validate_every" in caplog.text


class Times(nn.Module):
    """Every pixel four times, darker."""

    scale = 2

    def __init__(self, gain: float):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, lr):
        return self.gain * F.interpolate(lr, scale_factor=2)


def test_an_image_that_is_met_exactly_does_not_hide_which_state_is_best(folder):
    """Its PSNR is infinite, and so is the set's mean, whatever the other image says."""
    images = {"black": np.zeros((32, 32, 3), np.uint8), "gray": np.full((32, 32, 3), 99, np.uint8)}
    write_pairs(folder / "data/flat", images, 2)
    run = trainer(folder, validation_set="flat", test_every=1, max_iterations=3)
    run.folder.open("", 0, 0)
    for step, gain in enumerate((0.5, 0.9, 0.7), start=1):
        run.model, run.step = Times(gain).train(), step
        run._validate()
    run.close()
    assert run.checkpoints.best_score["step"] == 2 and 50 < run.checkpoints.best_score["psnr"] < 100


def test_a_validation_gives_the_numbers_of_test_py_in_bf16_too(folder):
    run = trainer(
        folder, eval_sets=["toy"], test_every=1, max_iterations=1, precision="bf16", checkpoint_activations=True
    )
    run.run()
    model = load_model(run.config.run_folder / "models/last.pt")
    score = evaluate(model, load_test_sets(run.config), precision="bf16").mean("toy")
    (line,) = metrics(run, "validation")
    assert (line["psnr/toy"], line["ssim/toy"]) == (score.psnr, score.ssim)


def test_keep_last_keeps_that_many_older_checkpoints(folder):
    for keep in (1, 3):
        run = trainer(folder, save_every=1, keep_last=keep)
        run.run()
        names = sorted(p.name for p in (run.config.run_folder / "models").iterdir())
        assert names == ["last.pt", *(f"step_{step:08d}.pt" for step in range(6 - keep, 6))]
        assert load_checkpoint(run.config.run_folder / "models" / names[1])["step"] == 6 - keep


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulating_k_batches_of_b_equals_one_batch_of_kb(folder, optimizer):
    torch.set_default_dtype(torch.float64)
    try:
        whole = trainer(folder, batch_size=6, max_iterations=20, optimizer=optimizer)
        parts = trainer(folder, batch_size=2, accumulate=3, max_iterations=20, optimizer=optimizer)
        for run, k in ((whole, 1), (parts, 3)):
            batches = list(run.stream.loader(0, 5 * k))
            for step in range(5):
                run.train_step(batches[step * k : (step + 1) * k])
        assert (weights(whole) - weights(parts)).abs().max() <= 1e-9
        assert losses(whole) == pytest.approx(losses(parts), rel=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_accumulated_gradients_of_the_first_step_equal_in_float32(folder):
    gradients = []
    for batch_size, k in ((6, 1), (2, 3)):
        run = trainer(folder, batch_size=batch_size, accumulate=k)
        run.optimizer.zero_grad = lambda set_to_none=True: None  # keep them to look at
        run.train_step(list(run.stream.loader(0, k)))
        gradients.append(torch.cat([p.grad.flatten() for p in run.model.parameters()]))
    assert (gradients[0] - gradients[1]).norm() <= 1e-6 * gradients[0].norm()


def test_ema_is_the_exponential_average_of_the_weights_with_a_short_memory_at_first(folder):
    run = trainer(folder, ema_decay=0.25)
    average = 0
    for batch, decay in zip(run.stream.loader(0, 5), (0, 2 / 11, 3 / 12, 0.25, 0.25), strict=True):
        run.train_step([batch])
        average = decay * average + (1 - decay) * weights(run)
    kept = nn.utils.parameters_to_vector(run.ema.module.parameters())
    assert (kept - average).abs().max() <= 1e-6
    assert (kept - weights(run)).abs().max() > 1e-4


def test_grad_clip_limits_the_norm_of_the_gradient(folder):
    norms = {}
    for clip in (0.0, 1e-3):
        run = trainer(folder, grad_clip=clip)
        run.optimizer.zero_grad = lambda set_to_none=True: None
        run.train_step(list(run.stream.loader(0, 1)))
        norms[clip] = torch.cat([p.grad.flatten() for p in run.model.parameters()]).norm().item()
    assert norms[0.0] > 1e-2
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_adam_decays_weights_through_the_gradient_and_adamw_directly(folder):
    ends = [weights(steps(trainer(folder, optimizer=kind, weight_decay=0.5), 3)) for kind in ("adam", "adamw")]
    free = weights(steps(trainer(folder, weight_decay=0.0), 3))
    assert not torch.equal(*ends) and not torch.equal(ends[1], free)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"lr": 2e-3}, {"betas": [0.5, 0.9]}, {"lambda_fft": 0.1}, {"lambda_l1": 0.5}, {"precision": "bf16"},
     {"data_augment": False}, {"data_repeat": 3}, {"patch_size": 16}, {"batch_size": 3}, {"eta_min": 9e-4},
     {"warmup_epochs": 1}, {"scheduler": "multistep", "decays": [1], "gamma": 0.1}, {"beta_sign": "plus"},
     {"skip": "raw"}, {"num_heads": 4}, {"attention": "dense"}, {"moe": False}, {"max_iterations": 7},
     {"training_dataset": "toy"}, {"model": "SSUFSR"}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_key_of_the_numbers_changes_the_weights_but_the_alias_does_not(folder, six_steps, change):
    theirs = weights(steps(trainer(folder, **change), 6))
    assert torch.equal(six_steps, theirs) == ("model" in change)


def test_free_keys_change_nothing(folder, six_steps):
    free = {"threads": 2, "gpu_ids": [3], "log_every": 1, "save_every": 1, "keep_last": 1}
    run = trainer(folder, **free, checkpoint_activations=True)
    run.run()
    assert torch.equal(weights(run), six_steps)


def test_init_trunk_takes_all_but_the_tail_of_another_scale(folder, tmp_path):
    source = trainer(folder, patch_size=24)
    save_weights(tmp_path / "x2.safetensors", source.model)
    run = trainer(folder, scale=2, seed=7, init_trunk=str(tmp_path / "x2.safetensors"))
    fresh = trainer(folder, scale=2, seed=7)
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, (fresh if name.startswith("tail.") else source).model.state_dict()[name]), name


def test_pretrain_starts_from_all_weights_and_names_what_takes_those_of_another_scale(folder, tmp_path):
    source = trainer(folder)
    save_weights(tmp_path / "x2.safetensors", source.model)
    other = trainer(folder, scale=2, seed=7)
    other.close()
    with pytest.raises(BadInputError, match=r"checkpoint scale=2, config scale=3.*init_trunk=.*x2.safetensors"):
        load_weights(build_model(other.config.model_copy(update={"scale": 3})), tmp_path / "x2.safetensors")
    run = trainer(folder, seed=7, pretrain=str(tmp_path / "x2.safetensors"))
    assert torch.equal(weights(run), weights(source))


@pytest.mark.slow
def test_compiled_training_gives_the_same_losses(folder):
    plain, compiled = (steps(trainer(folder, compile=flag), 3) for flag in (False, True))
    assert losses(plain) == pytest.approx(losses(compiled), rel=1e-4)
    assert list(plain.model.state_dict()) == list(compiled.model.state_dict())


def test_a_folder_that_holds_a_run_is_not_started_into(folder):
    trainer(folder, max_iterations=1, log_name="held").run()
    with pytest.raises(OutputError, match="already holds a run; --resume auto continues it"):
        trainer(folder, log_name="held")


def test_a_folder_in_use_is_refused_naming_the_process(folder):
    holder = trainer(folder)
    with pytest.raises(BusyError, match=r"in use by pid \d+ on "):
        trainer(folder, "auto", log_name=holder.config.log_name)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data_path": "/nowhere"}, MissingInputError, "/nowhere"),
        ({"training_dataset": "absent"}, MissingInputError, "absent"),
        ({"patch_size": 64}, BadInputError, "smaller than patch_size 64"),
        ({"eval_sets": ["absent"], "test_every": 1}, ConfigError, "absent"),
        ({"eval_sets": ["Set5"], "test_every": 1}, MissingInputError, r"Set5: .*; eval_sets=\[\] trains without"),
        ({"validation_set": "absent"}, MissingInputError, "absent"),
        ({"pretrain": "/nowhere.pt"}, MissingInputError, "nowhere.pt"),
        ({"device": "cuda"}, ConfigError, "'device'"),
        ({"n_blocks": 4}, ConfigError, "n_blocks"),
    ],
)
def test_bad_settings_are_named_before_step_one(folder, change, error, message):
    if change.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(error, match=message):
        trainer(folder, **change)


@pytest.mark.parametrize(("patch_size", "warned"), [(64, True), (72, False)])
def test_patches_whose_windows_all_touch_the_border_are_warned_of(folder, caplog, patch_size, warned):
    """x2: LR 32 is two windows of 16 a side, LR 36 three."""
    run = trainer(folder, patch_size=24, max_iterations=1)
    object.__setattr__(run.config, "patch_size", patch_size)
    log_start(run.config, run.stream, run.schedule, run.model, run.processes, 0)
    run.close()
    assert ("touches the border" in caplog.text) == warned

"""A run that is stopped anywhere and resumed ends exactly as one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import same
from tiny_run import make_data, outcome, run_with_stops, stop_after, tiny_config

from ssiu.errors import BadInputError, ConfigError, MissingInputError, OutputError, StoppedError
from ssiu.images.io import save_image
from ssiu.training.run_folder import RunFolder
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]
RUN = {
    "max_iterations": 8, "ema_decay": 0.9, "validation_set": "val", "eval_sets": ["toy"], "validate_every": 3,
    "log_every": 3, "save_every": 4, "grad_clip": 0.1, "warmup_epochs": 1, "batch_size": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(folder):
    Trainer(tiny_config(folder, log_name="whole", **RUN)).run()
    return outcome(folder / "logs/whole")


@pytest.fixture(scope="module")
def stopped_at_3(folder):
    """The folder of a run that was stopped after step 3."""
    run = Trainer(tiny_config(folder, log_name="stopped_at_3", **RUN))
    stop_after(run, 3)
    with pytest.raises(StoppedError):
        run.run()
    return run.config.run_folder


@pytest.mark.parametrize(("threads", "stops"), [(0, range(1, 8)), (2, (3, 6)), (4, (5,))])
def test_stopping_after_every_step_changes_nothing(folder, uninterrupted, threads, stops):
    config = tiny_config(folder, log_name=f"stopped{threads}", threads=threads, **RUN)
    for step in stops:
        run = Trainer(config, "auto")
        stop_after(run, step)
        with pytest.raises(StoppedError, match=f"stopped by SIGTERM; step {step} of 8 is saved") as caught:
            run.run()
        assert caught.value.exit_code == 143
        assert load_checkpoint(config.run_folder / "models/last.pt")["step"] == step
    assert Trainer(config, "auto").run().startswith(f"finished: {8 - step} iterations, 8 in all")
    assert same(outcome(config.run_folder), uninterrupted)


@pytest.mark.parametrize(
    "change",
    [{"precision": "fp16"}, {"precision": "bf16"}, {"optimizer": "adam"}, {"accumulate": 2}, {"log_every": 100},
     {"optimizer": "muon"}, {"optimizer": "muon", "accumulate": 2}, {"optimizer": "muon", "precision": "fp16"},
     {"optimizer": "muon", "precision": "bf16"},
     {"scheduler": "restarts", "periods": [2, 3], "warmup_epochs": 0, "warmup_iterations": 2, "ema_warmup": False},
     {"scheduler": "multistep", "milestones": [2, 3]}],
    ids=lambda change: "-".join(map(str, change.values())),
)  # fmt: skip
def test_other_settings_resume_bit_identically_too(folder, change):
    change = {**RUN, "max_iterations": 5, "test_every": 0, "validate_every": None, **change}
    configs = [tiny_config(folder, log_name=f"{name}{hash(str(change))}", **change) for name in ("whole", "part")]
    Trainer(configs[0]).run()
    run_with_stops(configs[1], (2,))
    assert same(*(outcome(config.run_folder) for config in configs))


@pytest.mark.parametrize(
    "length", [{"max_iterations": 7}, {"max_iterations": None, "epochs": 2}], ids=["steps", "epochs"]
)
def test_validations_every_so_many_steps_come_at_the_same_steps_however_often_a_run_is_stopped(folder, length):
    change = {**RUN, **length, "test_every": 0, "validate_every": 3}
    name = "-".join(length)
    whole, config = (tiny_config(folder, log_name=f"{name}{part}", **change) for part in ("whole", "part"))
    Trainer(whole).run()
    lines = [json.loads(line) for line in (whole.run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [3, 6, 7]
    run_with_stops(config, (3, 4))
    assert same(outcome(config.run_folder), outcome(whole.run_folder))


@pytest.mark.parametrize(
    "change",
    [{"eval_sets": []}, {"eval_sets": ["toy", "train"]}, {"tile": 16}, {"self_ensemble": True}, {"validate_every": 2}],
    ids=lambda change: "-".join(map(str, change.values())),
)
def test_what_is_scored_and_how_may_change_on_resume(folder, uninterrupted, stopped_at_3, change):
    config = tiny_config(folder, log_name=f"scored{change}".replace("/", ""), **{**RUN, **change})
    shutil.copytree(stopped_at_3, config.run_folder)
    assert Trainer(config, "auto").run().startswith("finished: 5 iterations, 8 in all")
    state = load_checkpoint(config.run_folder / "models/last.pt")
    for part in ("model", "ema", "optimizer"):
        assert same(state[part], uninterrupted[0][part])
    last = [json.loads(line) for line in (config.run_folder / "metrics.jsonl").read_text().splitlines()][-1]
    scored = {key.partition("/")[2] for key in last if key.startswith("psnr/")}
    assert scored == {*change.get("eval_sets", ["toy"]), "val"}


@pytest.mark.parametrize(
    "change", [{"validation_set": None}, {"data_repeat": 3}, {"seed": 1}, {"ema_decay": 0.8}], ids=str
)
def test_what_is_computed_may_not_change_on_resume(folder, uninterrupted, change):
    with pytest.raises(ConfigError, match=f"other settings: {next(iter(change))}: "):
        Trainer(tiny_config(folder, log_name="whole", **{**RUN, **change}), "auto")


def test_a_run_that_is_past_its_new_end_is_refused_and_kept(folder):
    config = tiny_config(folder, log_name="past", max_iterations=4)
    Trainer(config).run()
    before = (folder / "logs/past/models/last.pt").read_bytes()
    shorter = tiny_config(folder, log_name="past", max_iterations=3)
    with pytest.raises(ConfigError, match=r"last.pt is at step 4, and the run would end at 3: raise max_iterations"):
        Trainer(shorter, "auto", allow_changes=True)
    assert (folder / "logs/past/models/last.pt").read_bytes() == before


@pytest.mark.parametrize("other", ["set", "folder"])
def test_the_best_of_another_validation_set_or_run_blocks_no_new_one(folder, other):
    first = {"validation_set": "val", "test_every": 1, "max_iterations": 2}
    config = tiny_config(folder, log_name=f"best_{other}", **first)
    Trainer(config).run()
    last = config.run_folder / "models/last.pt"
    state = load_checkpoint(last)
    state["best"]["psnr"] = 99.0
    save_checkpoint(last, state)
    assert Trainer(config, "auto").checkpoints.best_score == state["best"], "the same set and folder"
    changes = {"validation_set": "toy"} if other == "set" else {"log_name": "best_elsewhere"}
    changed = tiny_config(folder, **{"log_name": f"best_{other}", **first, **changes, "max_iterations": 4})
    run = Trainer(changed, "auto" if other == "set" else str(last), allow_changes=True)
    run.run()
    assert 0 < load_checkpoint(changed.run_folder / "models/best.pt")["best"]["psnr"] < 99


@pytest.mark.parametrize(("step", "before"), [(6, 3), (8, 6)])  # 8 is the last
def test_a_stop_during_validation_repeats_that_validation(folder, uninterrupted, step, before):
    config = tiny_config(folder, log_name=f"validation{step}", **RUN)
    run = Trainer(config, "auto")
    original = run._validate

    def validate():
        if run.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        original()

    run._validate = validate
    with pytest.raises(StoppedError, match="SIGINT") as caught:
        run.run()
    assert caught.value.exit_code == 130
    assert load_checkpoint(config.run_folder / "models/last.pt")["validated"] == before
    Trainer(config, "auto").run()
    assert same(outcome(config.run_folder), uninterrupted)


def test_a_finished_run_says_so(folder, uninterrupted):
    config = tiny_config(folder, log_name="whole", **RUN)
    assert Trainer(config, "auto").run().startswith("already complete: 8 iterations")
    assert same(outcome(config.run_folder), uninterrupted)


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_says_so(folder, uninterrupted, caplog):
    config = tiny_config(folder, log_name="damaged", **RUN)
    run = Trainer(config)
    stop_after(run, 6)
    with pytest.raises(StoppedError):
        run.run()
    last = config.run_folder / "models/last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    run = Trainer(config, "auto")
    assert run.step == 4 and "last.pt" in caplog.text
    run.run()
    assert same(outcome(config.run_folder), uninterrupted)


def test_when_every_checkpoint_is_damaged_nothing_starts_over(folder):
    config = tiny_config(folder, log_name="ruined", max_iterations=4)
    Trainer(config).run()
    for path in (config.run_folder / "models").iterdir():
        path.write_bytes(b"nonsense")
    with pytest.raises(BadInputError, match="none of the 2 checkpoints"):
        Trainer(config, "auto")


def test_a_checkpoint_or_run_folder_can_be_continued_elsewhere(folder):
    source = tiny_config(folder, log_name="source", max_iterations=4)
    Trainer(source).run()
    ends = []
    for index, path in enumerate((source.run_folder, source.run_folder / "models/step_00000002.pt")):
        config = tiny_config(folder, log_name=f"elsewhere{index}", max_iterations=4)
        run = Trainer(config, str(path))
        assert run.step == (4, 2)[index]
        run.run()
        ends.append(run.model.state_dict())
    assert same(dict(ends[0]), dict(ends[1]))


def test_a_run_continued_elsewhere_is_kept_from_its_first_moment(folder):
    """Else one that is killed before its first save would start from scratch when it is continued."""
    source = tiny_config(folder, log_name="origin", max_iterations=4)
    Trainer(source).run()
    config = tiny_config(folder, log_name="moved", max_iterations=9, save_every=100)
    run = Trainer(config, str(source.run_folder), allow_changes=True)

    def killed(batches):
        raise KeyboardInterrupt

    run.train_step = killed
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert Trainer(config, "auto").step == 4


@pytest.mark.parametrize("damaged", [False, True])
def test_an_older_checkpoint_of_a_run_is_not_gone_back_to_in_its_own_folder(folder, damaged):
    """It would overwrite last.pt and best.pt, and metrics.jsonl would tell of two histories."""
    config = tiny_config(folder, log_name=f"back{damaged}", max_iterations=6)
    Trainer(config).run()
    models = config.run_folder / "models"
    if damaged:
        (models / "last.pt").write_bytes(b"nonsense")
    before = {path.name: path.read_bytes() for path in models.iterdir()}
    reached, older = (4, 2) if damaged else (6, 4)
    with pytest.raises(OutputError, match=f"has continued to step {reached}.*in a new log_name"):
        Trainer(config, str(models / f"step_{older:08d}.pt"))
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before
    newest = models / f"step_{reached:08d}.pt" if damaged else models / "last.pt"
    assert Trainer(config, str(newest)).step == reached


@pytest.mark.parametrize("path", ["nowhere.pt", "nowhere", "logs"])
def test_resuming_from_nothing_is_an_error(folder, path):
    with pytest.raises(MissingInputError, match=path):
        Trainer(tiny_config(folder, log_name="nothing"), str(folder / path))


def test_changed_settings_are_refused_by_name_unless_allowed(folder, caplog):
    Trainer(tiny_config(folder, log_name="changed", max_iterations=4)).run()
    config = tiny_config(folder, log_name="changed", max_iterations=5, lr=0.5, threads=2, keep_last=5)
    with pytest.raises(ConfigError, match=r"lr: 0.001 -> 0.5.*--allow-changes") as caught:
        Trainer(config, "auto")
    assert "max_iterations: 4 -> 5" in str(caught.value) and "threads" not in str(caught.value)
    assert Trainer(config, "auto", allow_changes=True).step == 4
    assert "lr: 0.001 -> 0.5" in caplog.text


def test_changed_training_images_are_refused_unless_allowed(tmp_path):
    make_data(tmp_path / "data")
    config = tiny_config(tmp_path, max_iterations=2)
    Trainer(config).run()
    image = tmp_path / "data/train/HR/p0.png"
    from ssiu.images.io import read_rgb

    pixels = read_rgb(image)
    pixels[0, 0] ^= 1
    image.unlink()
    save_image(image, pixels)
    with pytest.raises(BadInputError, match="training images are not those"):
        Trainer(config, "auto")
    assert Trainer(config, "auto", allow_changes=True).step == 2


def test_a_weights_file_is_not_a_run(folder, reference):
    with pytest.raises(BadInputError, match="not a checkpoint of a training run"):
        Trainer(tiny_config(folder, log_name="weights"), str(reference / "official_tiny_x2.pt"))


def test_metrics_are_cut_back_to_the_checkpoint_and_torn_lines_dropped(tmp_path):
    lines = [{"kind": "train", "step": 2}, {"kind": "validation", "step": 4}, {"kind": "train", "step": 4}]
    for tail in ('{"kind": "train", "st', '{"kind": "train", "step": 6}\n'):
        folder = RunFolder(tmp_path / str(len(tail)))
        folder.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
        folder.open("", 4, 4)
        folder.close()
        assert [json.loads(line) for line in folder.metrics_path.read_text().splitlines()] == lines


def test_a_checkpoint_of_another_scale_is_refused(folder):
    Trainer(tiny_config(folder, log_name="scale", max_iterations=2)).run()
    path = folder / "logs/scale/models/last.pt"
    state = load_checkpoint(path)
    state["config"]["scale"] = 3
    save_checkpoint(path, state)
    with pytest.raises(ConfigError, match="scale: 3 -> 2"):
        Trainer(tiny_config(folder, log_name="scale", max_iterations=2), "auto")


def test_the_command_line_starts_continues_and_reports(tmp_path):
    """The contract others script against: same command to start and to go on; last stdout line; exit code."""
    make_data(tmp_path / "data")
    config = tmp_path / "run.yml"
    config.write_text(tiny_config(tmp_path).to_yaml())
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(config), f"log_path={tmp_path}/D", "log_name=N"]
    command += ["max_iterations=4", "save_every=1", "threads=1", "--resume", "auto"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == f"finished: 4 iterations, 4 in all, {tmp_path}/D/N/models/last.pt"
    assert torch.load(tmp_path / "D/N/models/last.pt", weights_only=True)["step"] == 4
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout.splitlines()[-1][:16]) == (0, "already complete")
    wrong = subprocess.run([*command, "lr=x"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 78 and wrong.stderr.startswith("error:") and "'lr'" in wrong.stderr
    assert "Traceback" not in wrong.stderr

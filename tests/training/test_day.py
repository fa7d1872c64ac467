"""What a user sees of a training run: warnings, the time left, the last message, what a failed start leaves behind."""

import logging
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_run import make_data, tiny_config

from ssiu.cli import train as command
from ssiu.cli.console import run_cli
from ssiu.data.test_sets import shared_files
from ssiu.errors import MissingInputError, StoppedError
from ssiu.training.trainer import Trainer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_data(tmp_path / "data")
    return tmp_path


def test_images_in_training_and_test_sets_alike_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(folder / "data/train/HR/p3.png", folder / "data/toy/HR/p1.png")
    shutil.copy(folder / "data/train/LR_bicubic/X2/p3x2.png", folder / "data/toy/LR_bicubic/X2/p1x2.png")
    keys = {"validation_set": "val", "eval_sets": ["toy"], "test_every": 1}
    with caplog.at_level(logging.WARNING, "ssiu"):
        run = Trainer(tiny_config(folder, **keys))
    run.close()
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["toy shares 1 images with the training set train (p1): its scores will be optimistic"]
    assert shared_files(run.stream.sets[0], run.validation.test_sets) == {"toy": ["p1"]}
    assert shared_files(run.stream.sets[0], [run.validation.choosing_set]) == {}


def test_the_time_left_counts_the_validations_to_come(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Trainer(tiny_config(folder, eval_sets=["toy"], test_every=1, max_iterations=10, log_every=1))
    seconds, validate = [0.0], run.validation.run

    def slow(*arguments: object) -> object:
        seconds[0] += 1000
        return validate(*arguments)

    def perf_counter() -> float:
        seconds[0] += 0.01
        return seconds[0]

    run.validation.run = slow
    with caplog.at_level(logging.INFO, "ssiu"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssiu.training.run_log.time", SimpleNamespace(perf_counter=perf_counter))
        run.run()
    left = [record.getMessage().rpartition("ETA ")[2] for record in caplog.records if "ETA" in record.getMessage()]
    assert left[0].startswith("00:"), "nothing is known yet"
    assert left[1].startswith("2:30:"), "nine validations of 1000 seconds"
    assert left[-1].startswith("16:4"), "the last one"


def test_a_start_that_failed_leaves_no_folder(folder: Path) -> None:
    config = tiny_config(folder, training_dataset="absent")
    with pytest.raises(MissingInputError, match="absent"):
        Trainer(config)
    assert not config.run_folder.exists()
    config.run_folder.mkdir(parents=True)
    (config.run_folder / "notes.txt").write_text("mine")
    with pytest.raises(MissingInputError, match="absent"):
        Trainer(config)
    assert (config.run_folder / "notes.txt").read_text() == "mine", "what was there stays"


def test_a_script_that_sets_up_no_logging_sees_the_lines(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch
) -> None:
    log = logging.getLogger("ssiu")
    monkeypatch.setattr(log, "propagate", False)  # pytest gives the root logger handlers
    Trainer(tiny_config(folder, max_iterations=2)).run()
    assert "step 2/2  loss " in capsys.readouterr().out
    monkeypatch.setattr(log, "handlers", [logging.NullHandler()])
    Trainer(tiny_config(folder, max_iterations=2, log_name="silent")).run()
    assert capsys.readouterr().out == "", "a script that asks for silence gets it"


def test_the_last_message_is_said_once(folder: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    (folder / "c.yml").write_text(tiny_config(folder).to_yaml())
    train_step = Trainer.train_step

    def stopping(self: Trainer, batches: list) -> None:
        train_step(self, batches)
        self.stop.signum = signal.SIGINT

    monkeypatch.setattr(Trainer, "train_step", stopping)
    log = logging.getLogger("ssiu")
    monkeypatch.setattr(log, "propagate", False)  # other libraries may have given the root logger a handler
    with pytest.raises(SystemExit) as ended:
        run_cli(command.main, ["--config", str(folder / "c.yml")])
    assert ended.value.code == StoppedError("", signal.SIGINT).exit_code
    printed = "".join(capsys.readouterr())
    assert printed.count("stopped by SIGINT") == 1
    assert "stopped by SIGINT" in (folder / "logs/run/log.txt").read_text()

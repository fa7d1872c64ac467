"""Checkpoints whose digest is right but whose entries are not this version's; and what only has a checkpoint's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import ends_within
from hostile import hostile_pickles, torch_zip
from tiny_run import tiny_config

from ssiu.errors import BadInputError, OutputError, SSIUError
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint, save_checkpoint

Change = Callable[[dict[str, Any]], dict[str, Any]]


def without(name: str) -> Change:
    return lambda state: {key: value for key, value in state.items() if key != name}


ENTRIES = (
    "step",
    "config",
    "data",
    "model",
    "ema",
    "optimizer",
    "scaler",
    "terms",
    "skipped_steps",
    "validated",
    "best",
)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(without(name), f"entry '{name}' is missing") for name in ENTRIES]
    + [
        (lambda state: state | {"step": "4"}, "entry 'step' is of type str, expected a whole number from 0"),
        (lambda state: state | {"step": -1}, "entry 'step' is -1, expected a whole number from 0"),
        (lambda state: state | {"config": ["model"]}, "entry 'config' is of type list, expected a dict"),
        (lambda state: state | {"config": "abc"}, "entry 'config' is of type str, expected a dict"),
    ],
)
def test_a_checkpoint_with_other_entries_is_skipped_by_auto_and_refused_by_name(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: Change, reason: str
) -> None:
    """Its digest is right: another version wrote it, or somebody else."""
    config = tiny_config(folder, log_name="entries", max_iterations=4)
    if not config.run_folder.exists():
        Trainer(config).run()
    last = config.run_folder / "models/last.pt"
    whole = load_checkpoint(last.with_name("step_00000002.pt"))
    save_checkpoint(last, damage(whole))
    run = Trainer(config, "auto")
    run.close()
    assert run.step == 2 and f"another version or program: its {reason}" in caplog.text
    with pytest.raises(BadInputError, match=reason) as refused:
        Trainer(tiny_config(folder, log_name="elsewhere", max_iterations=4), str(last))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: {"optimizer": {}},
        lambda state: {"optimizer": state["optimizer"] | {"param_groups": [{}]}},
        lambda state: {"model": {3: torch.ones(1)}},
        lambda state: {"ema": {"n_averaged": "x"}},
        lambda state: {"ema": state["ema"] | {"module.head.bias": torch.ones(1)}},
        lambda state: {"terms": torch.ones(3)},
    ],
)
def test_entries_that_hold_something_else_are_refused_in_a_line(folder: Path, damage: Change) -> None:
    config = tiny_config(folder, log_name="inside", max_iterations=4, ema_decay=0.9)
    if not config.run_folder.exists():
        Trainer(config).run()
    state = load_checkpoint(config.run_folder / "models/step_00000002.pt")
    save_checkpoint(config.run_folder / "models/last.pt", state | damage(state))
    with pytest.raises(
        SSIUError, match=r"last\.pt (is a checkpoint of another version|holds another network)"
    ) as refused:
        Trainer(config, "auto")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_that_would_never_be_read_is_skipped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(folder, log_name="endless", max_iterations=4)
    Trainer(config).run()
    for name, pickled, _ in hostile_pickles():
        if "tuple" in name:
            (config.run_folder / "models/last.pt").write_bytes(torch_zip(pickled))
            with ends_within(60):
                run = Trainer(config, "auto")
            run.close()
            assert run.step == 2 and "last.pt is refused" in caplog.text
            caplog.clear()


def test_a_folder_in_the_place_of_a_checkpoint_is_skipped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(folder, log_name="folders", max_iterations=4)
    Trainer(config).run()
    models = config.run_folder / "models"
    (models / "last.pt").rename(models / "older.pt")
    (models / "last.pt").mkdir()
    (models / "step_00000058.pt").mkdir()
    with pytest.raises(OutputError, match=r"last\.pt"):  # which the run could not save
        Trainer(config, "auto")
    (models / "last.pt").rmdir()
    run = Trainer(config, "auto")
    run.close()
    assert run.step == 2 and "step_00000058.pt" in caplog.text

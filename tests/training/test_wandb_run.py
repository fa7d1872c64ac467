"""``tracker: wandb``, with a stand-in for the package that writes down what it is given."""

import json
import sys
from pathlib import Path

import pytest
from tiny_run import make_data, tiny_config, trainer

from ssiu.errors import ConfigError
from ssiu.training.trainer import Trainer

STAND_IN = """
import json, os
from pathlib import Path

class Error(Exception):
    pass

class Settings(dict):
    pass

class Image:
    def __init__(self, array):
        self.shape = array.shape

class Run:
    def __init__(self, folder):
        self.file = Path(folder) / "told.jsonl"

    def tell(self, name, value):
        with self.file.open("a") as file:
            file.write(json.dumps([name, value], default=lambda image: list(image.shape)) + "\\n")

    def define_metric(self, name, step_metric):
        self.tell("metric", [name, step_metric])

    def log(self, values):
        self.tell("log", values)

    def finish(self):
        self.tell("finish", None)

def init(**arguments):
    if os.environ.get("WANDB_MODE") == "broken":
        raise Error("no API key configured\\nand more")
    run = Run(arguments["dir"])
    run.tell("init", {name: arguments[name] for name in ("project", "name", "id", "resume", "config")})
    return run
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


def told(folder: Path) -> list:
    return [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("stand_in")
def test_the_tracker_gets_what_metrics_and_tensorboard_get_and_a_resumed_run_stays_one(tmp_path: Path) -> None:
    make_data(tmp_path / "data")
    settings = {"tracker": "wandb", "validation_set": "val", "test_every": 1, "log_name": "run"}
    trainer(tmp_path, max_iterations=4, **settings).run()
    Trainer(tiny_config(tmp_path, max_iterations=6, **settings), "auto", allow_changes=True).run()
    folder = tmp_path / "logs/run"
    begun = [value for name, value in told(folder) if name == "init"]
    assert len(begun) == 2 and begun[0]["id"] == begun[1]["id"] and len(begun[0]["id"]) == 8
    assert (begun[0]["project"], begun[0]["name"], begun[0]["resume"]) == ("ssiu", "run", "allow")
    assert begun[0]["config"] == tiny_config(tmp_path, max_iterations=4, **settings).model_dump(mode="json")
    assert [name for name, _ in told(folder)].count("finish") == 2
    logged = [value for name, value in told(folder) if name == "log"]
    images = [line for line in logged if any(key.startswith("images/") for key in line)]
    assert {tuple(line) for line in images} == {("step", "images/val/p0", "images/val/p1")}
    assert images[0]["images/val/p0"] == [16 + 40, 4 * 48, 3]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line for line in logged if line not in images] == [
        {"step": line["step"]} | {f"{line['kind']}/{key}": line[key] for key in line if key not in ("kind", "step")}
        for line in lines
    ]


@pytest.mark.usefixtures("stand_in")
def test_what_keeps_wandb_from_starting_ends_in_a_line_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path / "data")
    monkeypatch.setenv("WANDB_MODE", "broken")
    with pytest.raises(ConfigError, match=r"cannot start: no API key configured; WANDB_MODE=offline"):
        trainer(tmp_path, tracker="wandb", log_name="run").run()
    assert not (tmp_path / "logs/run").exists()


def test_without_the_package_it_is_named_before_any_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="key 'tracker': wandb is not installed: pip install wandb"):
        Trainer(tiny_config(tmp_path, tracker="wandb"))
    assert not (tmp_path / "logs").exists()

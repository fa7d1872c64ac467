"""A model outside the package, named in a config: built, trained, tested; and never imported because of a file."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_sets import photo, small_set
from tiny import same
from tiny_run import make_data, outcome, tiny_config

from ssiu.cli import benchmark as benchmark_command
from ssiu.cli import export as export_command
from ssiu.cli import test as test_command
from ssiu.cli import upscale as upscale_command
from ssiu.config.load import load_config, make_config
from ssiu.errors import BadInputError, ConfigError, MissingInputError, StoppedError
from ssiu.images.io import read_rgb, save_image
from ssiu.models import build_model
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint, save_checkpoint
from ssiu.weights.formats import read_weights, save_weights
from ssiu.weights.load import load_configured, load_model

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, scale, width=8):
        super().__init__()
        self.body = nn.ModuleList([nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3 * scale**2, 3, padding=1)])
        self.up = nn.PixelShuffle(scale)
    def forward(self, lr):
        for layer in self.body:
            lr = layer(lr)
        return self.up(lr)

class Dropping(Net):
    def forward(self, lr):
        return nn.functional.dropout(super().forward(lr), 0.5, self.training)

class Masked(Net):
    def __init__(self, scale, persistent):
        super().__init__(scale)
        self.register_buffer("mask", torch.full((2,), -torch.inf), persistent)

class Wrapped(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.module = Net(scale)
    def forward(self, lr):
        return self.module(lr)

class Wide(Net):
    size_multiple = 0

class Typed(Net):
    dtypes = ["bfloat16"]

class Small(Net):
    def forward(self, lr):
        return lr

class Broken(Net):
    def forward(self, lr):
        return lr.reshape(7)

def function(scale):
    return Net(scale)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's with the package my_nets in it, which is the current one."""
    (tmp_path / "my_nets").mkdir()
    (tmp_path / "my_nets/net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.startswith("my_nets")]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("my_nets", "_ssiu_"))]:
        del sys.modules[name]


UNUSED = {"n_feats": 64, "num_heads": 4, "n_blocks": 1}  # keys of the models of this project, at their defaults
OWN = {**UNUSED, "model": "my_nets.net:Net", "model_args": {"width": 4}, "scale": 2}


def test_a_config_builds_it_with_its_arguments_and_sets_what_it_leaves_out(here: Path) -> None:
    network = build_model(make_config(OWN))
    assert network.network.body[0].out_channels == 4 and network.training
    assert (network.scale, network.size_multiple, network.tail_prefixes) == (2, 1, ())
    assert network.arguments() == {"scale": 2, "width": 4}
    assert make_config(OWN).run_name == "Net_x2"
    (here / "c.yml").write_text("model: my_nets.net:Net\nscale: 2\n")
    assert load_config("c.yml", ["model_args={width: 5}"]).model_args == {"width": 5}


def test_a_buffer_that_no_checkpoint_holds_may_be_infinite(here: Path) -> None:
    assert build_model(make_config({**OWN, "model": "my_nets.net:Masked", "model_args": {"persistent": False}}))


def test_a_config_alone_imports_nothing(here: Path) -> None:
    make_config(OWN)
    assert "my_nets.net" not in sys.modules


@pytest.mark.parametrize(
    "model, arguments, reason",
    [
        ("elsewhere.net:Net", {}, "there is no module 'elsewhere'.*PYTHONPATH"),
        ("my_nets.net:Other", {}, "has no class Other derived from Module; it has Net"),
        ("my_nets.net:function", {}, "has no class function derived from Module"),
        ("my_nets.net:Net", {"depth": 3}, "cannot be built with scale=2 and model_args .*unexpected keyword.*--debug"),
        ("my_nets.net:Small", {}, r"makes \(1, 3, 64, 64\) of an image \(1, 3, 64, 64\); expected 2 times"),
        ("my_nets.net:Broken", {}, "fails on an image"),
        ("my_nets.net:Masked", {"persistent": True}, "buffer 'mask' holds NaN or infinity.*persistent=False"),
        ("my_nets.net:Wide", {}, "its size_multiple is 0; expected a whole number, 1 or more"),
        ("my_nets.net:Typed", {}, r"its dtypes is \['bfloat16'\]; expected a tuple"),
        ("my_nets.wrong:Net", {}, "cannot be imported: SyntaxError"),
        ("my_nets.needs:Net", {}, "cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(here: Path, model: str, arguments: dict, reason: str) -> None:
    (here / "my_nets/wrong.py").write_text("class Net(:\n")
    (here / "my_nets/needs.py").write_text("import not_there\n")
    with pytest.raises(ConfigError, match=reason) as error:
        build_model(make_config({"model": model, "model_args": arguments, "scale": 2}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", ["Net", "os.path", "my nets:Net", "../net:Net", "net:Net.__init__", ":Net", "net:"])
def test_other_names_are_no_models(model: str) -> None:
    with pytest.raises(ConfigError, match=r"key 'model': expected one of SSIU.*package\.module:Class"):
        make_config({"model": model})


def test_arguments_are_for_own_models_only() -> None:
    with pytest.raises(ConfigError, match="a model of your own, and SSIU is none"):
        make_config({"model": "SSIU", "model_args": {"n_feats": 8}})


def _trained(here: Path) -> Path:
    make_data(here / "data")
    changes = {"eval_sets": ["toy"], "test_every": 1, "ema_decay": 0.9, **OWN}
    config = tiny_config(here, **changes, optimizer="muon", max_iterations=4)
    Trainer(config).run()
    (here / "own.yml").write_text(config.to_yaml())
    return config.run_folder / "models/last.pt"


def test_it_is_trained_continued_tested_upscales_and_is_exported(here: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = _trained(here)
    Trainer(load_config("own.yml", ["max_iterations=6"]), "auto", allow_changes=True).run()
    test_command.main(["--config", "own.yml", f"pretrain={checkpoint}"])
    summary = json.loads((here / "results/run_last_x2/summary.json").read_text())
    parameters = sum(p.numel() for p in build_model(load_config("own.yml")).parameters())
    assert (summary["model"], summary["parameters"]) == ("net", parameters)
    save_image(here / "cup.png", photo("coffee", 20, 30))
    upscale_command.main(["cup.png", "--output", "out", "--config", "own.yml", "--weights", str(checkpoint)])
    assert read_rgb(here / "out/cup.png").shape == (40, 60, 3)
    export_command.main(["safetensors", str(checkpoint), "net.safetensors", "--config", "own.yml"])
    test_command.main(["--config", "own.yml", "pretrain=net.safetensors"])
    again = json.loads((here / "results/net_x2/summary.json").read_text())
    assert again["weights_sha256"] == summary["weights_sha256"]


def test_weights_are_named_where_there_are_none(here: Path) -> None:
    small_set(here / "data", 2)
    (here / "own.yml").write_text("model: my_nets.net:Net\nscale: 2\neval_sets: [Set5]\n")
    with pytest.raises(
        MissingInputError, match=r"no weights for my_nets\.net:Net here; name a file with pretrain=FILE"
    ):
        test_command.main(["--config", "own.yml"])


def test_no_file_makes_python_import_a_model(here: Path) -> None:
    """A checkpoint, its copy as safetensors: both name the model, neither imports it, both say what to do."""
    network = build_model(make_config(OWN))
    tensors = network.state_dict()
    save_weights(here / "net.safetensors", network)
    save_checkpoint(here / "last.pt", {"model": tensors, "config": make_config(OWN).model_dump(mode="json"), "step": 1})
    for name in [name for name in sys.modules if name.startswith("my_nets")]:
        del sys.modules[name]
    for name in ("net.safetensors", "last.pt"):
        with pytest.raises(BadInputError, match=r"weights of my_nets\.net:Net.*--config FILE.*docs/own_model\.md"):
            load_model(here / name)
        with pytest.raises(BadInputError, match=r"--config FILE"):
            upscale_command.main([str(_image(here)), "--output", "out", "--weights", name])
    assert not any(name.startswith("my_nets") for name in sys.modules)


def test_a_model_in_a_file_is_named_without_its_folder_by_weights_and_runs(here: Path) -> None:
    config = make_config({**OWN, "model": str(here / "my_nets/net.py:Net")})
    assert config.run_name == "Net_x2"
    network = build_model(config)
    save_weights(here / "net.safetensors", network)
    assert str(here).encode() not in (here / "net.safetensors").read_bytes()
    with pytest.raises(BadInputError, match=r"weights of net\.py:Net, a model outside this package"):
        load_model(here / "net.safetensors")
    relative = make_config({**OWN, "model": "my_nets/net.py:Net", "pretrain": "net.safetensors"})
    lr = torch.rand(1, 3, 5, 7)
    with torch.no_grad():
        assert load_configured(relative)(lr).equal(network.eval()(lr))


def _image(here: Path) -> Path:
    save_image(here / "cup.png", photo("coffee", 20, 30))
    return here / "cup.png"


def test_a_saved_run_is_not_rebuilt_from_what_its_checkpoint_says(here: Path) -> None:
    """Resuming takes the model from the command's config; a checkpoint that names another is refused."""
    make_data(here / "data")
    config = tiny_config(here)
    Trainer(config).run()
    path = config.run_folder / "models/last.pt"
    state = load_checkpoint(path)
    state["config"]["model"], state["config"]["model_args"] = "my_nets.net:Net", {"width": 4}
    save_checkpoint(path, state)
    with pytest.raises(ConfigError, match=r"made with other settings: model: my_nets\.net:Net -> SSIU"):
        Trainer(tiny_config(here, max_iterations=8), "auto")
    assert not any(name.startswith("my_nets") for name in sys.modules)


def test_it_is_measured_without_what_it_lacks(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "own.yml").write_text("model: my_nets.net:Net\nscale: 2\ndevice: cpu\n")
    benchmark_command.main(["inference", "--config", "own.yml", "--size", "16", "16", "--turns", "1"])
    printed = capsys.readouterr().out
    assert "eager-bf16" in printed and "prepared" not in printed and "literal" not in printed
    with pytest.raises(ConfigError, match="net has no prepare_for_inference"):
        benchmark_command.main(["inference", "--config", "own.yml", "--variants", "prepared", "--turns", "1"])
    benchmark_command.main(["complexity", "--config", "own.yml", "--size", "1280", "720"])
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert float(rows["body"][-1]) == float(rows["whole"][-1]) > 0, "a container holds what is in it"


def test_the_trial_changes_neither_the_network_nor_what_is_drawn_next(here: Path) -> None:
    drawn = []
    for build in (lambda: build_model(make_config(OWN)), lambda: sys.modules["my_nets.net"].Net(2, 4)):
        torch.manual_seed(3)
        drawn.append([*build().state_dict().values(), torch.rand(1)])
    assert all(map(torch.equal, *drawn))


def test_what_it_draws_is_the_same_after_a_stop_and_another_at_every_step_and_rank(here: Path) -> None:
    make_data(here / "data")
    dropping = {**OWN, "model": "my_nets.net:Dropping", "validation_set": "val", "test_every": 1}
    whole, parts = (tiny_config(here, log_name=name, **dropping) for name in ("whole", "parts"))
    Trainer(whole).run()
    for step in range(1, 6):
        torch.rand(step)  # whatever this process drew before
        run = Trainer(parts, "auto")
        torch.manual_seed(step)
        run.train_step = lambda batches, run=run: (Trainer.train_step(run, batches), setattr(run.stop, "signum", 15))
        with pytest.raises(StoppedError):
            run.run()
    Trainer(parts, "auto").run()
    assert same(outcome(parts.run_folder), outcome(whole.run_folder))

    run = Trainer(tiny_config(here, log_name="draws", **dropping, lr=1e-30, eta_min=0.0))
    (batch,) = run.stream.loader(0, 1)
    for rank, run.step in ((0, 0), (1, 0), (0, 1), (0, 0)):
        run.processes = replace(run.processes, rank=rank)
        run.train_step([batch])
    run.close()
    first, other_rank, other_step, again = (float(losses["loss"]) for losses in run.loss_log.steps)
    assert again == first and len({first, other_rank, other_step}) == 3


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_parts_may_have_the_names_that_other_codes_put_in_front(here: Path, ema_decay: float) -> None:
    make_data(here / "data")
    config = tiny_config(
        here, **{**OWN, "model": "my_nets.net:Wrapped", "model_args": {}, "ema_decay": ema_decay, "max_iterations": 1}
    )
    run = Trainer(config)
    run.run()
    expected = (run.ema.module if ema_decay else run.model).state_dict()
    loaded = load_configured(config, read_weights(config.run_folder / "models/last.pt"))
    assert loaded.state_dict().keys() == expected.keys() and "module.body.0.weight" in expected
    save_weights(here / "w.safetensors", loaded)
    for path in ("w.safetensors", config.run_folder / "models/last.pt"):
        again = load_configured(config, read_weights(path)).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())

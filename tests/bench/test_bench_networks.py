"""The inference and training benchmarks as a user runs them, on networks of a few channels."""

import json
import re
from pathlib import Path

import pytest
import torch
from tiny import tiny
from torch import nn

from ssiu.bench import inference, train
from ssiu.bench.variants import literal_network
from ssiu.cli import benchmark as command
from ssiu.config.load import make_config
from ssiu.errors import ConfigError, MissingInputError

CONFIG = str(Path(__file__).parents[2] / "configs/SSUFSR_light_x4.yml")
TINY = ["scale=2", "n_feats=8", "n_blocks=3", "device=cpu"]


def benchmark(tmp_path: Path, what: str, *options: str) -> list[dict]:
    """The tables of a subcommand, from its JSON file."""
    file = tmp_path / "tables.json"
    command.main([what, "--config", CONFIG, "--turns", "1", "--json", str(file), *options])
    return json.loads(file.read_text())["tables"]


def names(table: dict) -> list[str]:
    return [row["variant"] for row in table["rows"]]


def test_inference_has_a_table_for_every_size_and_the_literal_network_first(tmp_path):
    tables = benchmark(tmp_path, "inference", "--size", "16", "16", "--size", "32", "48", *TINY, "tile=16")
    assert ["LR 16x16, tile 16" in tables[0]["title"], "LR 32x48, tile 16" in tables[1]["title"]] == [True, True]
    for table in tables:
        assert names(table) == ["literal", "eager", "eager-bf16", "prepared", "prepared-bf16"]
        assert table["rows"][0]["times faster"] == 1
        assert all(row["median ms"] > 0 and row["x limit"] > 1 for row in table["rows"])


def test_every_variant_for_inference_upscales_as_the_network_does():
    model, lr = tiny().eval(), torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        expected = model(lr)
        for name in set(inference.VARIANTS) - {"compiled"}:
            tolerance = 0.05 if name.endswith("bf16") else 1e-5
            torch.testing.assert_close(inference.VARIANTS[name](model)(lr).float(), expected, rtol=0, atol=tolerance)


def test_train_has_the_literal_network_first_and_says_what_a_step_takes(tmp_path):
    (table,) = benchmark(tmp_path, "train", *TINY, "batch_size=2", "patch_size=32", "checkpoint_activations=true")
    assert names(table) == ["literal", "fp32", "bf16"]
    assert "batch 2 of LR 16x16" in table["title"] and "checkpointed" in table["title"]
    assert all(row["median ms"] > 0 and row["peak MiB"] > 0 for row in table["rows"])


def test_every_variant_for_training_takes_the_same_step():
    config = make_config({"scale": 2, "patch_size": 32, "batch_size": 2, "n_feats": 8, "n_blocks": 3})
    model, trained = tiny(), {}
    for name in ("literal", "fp32", "bf16"):
        network = train.variant(name, model, config)
        train.training_step(network, name.replace("literal", "fp32"), config, torch.device("cpu"))()
        trained[name] = nn.utils.parameters_to_vector(network.parameters()).detach()
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert (trained["fp32"] - start).abs().median() == pytest.approx(config.lr, rel=0.1)  # as Adam's first steps are
    torch.testing.assert_close(trained["fp32"], trained["literal"], rtol=0, atol=2e-4)
    assert ((trained["bf16"] - start).sign() == (trained["literal"] - start).sign()).float().mean() > 0.9


def test_a_network_without_a_literal_form_races_without_it(tmp_path):
    options = ("model=IDSANet", "n_feats=16", "n_blocks=2")
    (table,) = benchmark(tmp_path, "inference", "--size", "16", "16", *options)
    assert names(table)[0] == "eager"
    with pytest.raises(ConfigError, match=r"literal is SSIU's.*IDSANet"):
        benchmark(tmp_path, "inference", "--variants", "literal", *options)


def test_the_literal_network_has_the_weights_and_the_mode_of_its_model():
    model, lr = tiny().eval(), torch.rand(1, 3, 16, 16)
    literal = literal_network(model)
    assert not literal.training
    with torch.no_grad():
        torch.testing.assert_close(literal(lr), model(lr), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["inference", "--size", "0", "80"], "--size: expected a whole number, 16 or more, got '0'"),
        (["inference", "--size", "120x80", "1"], "--size: expected a whole number, 16 or more, got '120x80'"),
        (["inference", "--size", "-16", "80"], "-16"),
        (["inference", "--turns", "0"], "--turns: expected a whole number, 1 or more, got '0'"),
        (["inference", "--variants", "eager,fastest"], "--variants: expected some of literal,.*, got 'fastest'"),
        (["train", "--variants", "prepared"], "--variants: expected some of literal,fp32,.*, got 'prepared'"),
        (["complexity", "--size", "1280", "0"], "--size: expected a whole number, 16 or more, got '0'"),
        (["data", "--samples", "0"], "--samples: expected a whole number, 1 or more, got '0'"),
    ],
)
def test_a_bad_option_is_named_in_one_line(options, named, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(options)
    assert re.search(named, capsys.readouterr().err.splitlines()[-1])


def test_bad_keys_and_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="batchsize"):
        benchmark(tmp_path, "train", "batchsize=3")
    with pytest.raises(ConfigError, match="patch_size 33 is not a multiple of scale 4"):
        benchmark(tmp_path, "train", "patch_size=33")
    with pytest.raises(ConfigError, match=r"patch_size 16: .*LR patches of 8x8.*18 or more, or --variants fp32,bf16"):
        benchmark(tmp_path, "train", *TINY, "batch_size=1", "patch_size=16")
    smallest = (*TINY, "batch_size=1", "patch_size=18")
    assert names(benchmark(tmp_path, "train", *smallest)[0]) == ["literal", "fp32", "bf16"]
    with pytest.raises(MissingInputError, match=r"no file at .*gone\.onnx"):
        benchmark(tmp_path, "inference", "--onnx", str(tmp_path / "gone.onnx"))

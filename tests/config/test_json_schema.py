"""configs/schema.json, by which editors complete and check a config while it is written."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ssiu.cli import train as command
from ssiu.config.load import make_config
from ssiu.config.schema import Config
from ssiu.config.yaml import read_yaml
from ssiu.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
SCHEMA = json.loads((CONFIGS / "schema.json").read_text())
WRITTEN_IN_SEVERAL_WAYS: tuple[dict[str, Any], ...] = (
    {"eval_sets": "Set5"}, {"eval_sets": ["Set5", "B100"]}, {"gpu_ids": 0}, {"gpu_ids": [0, 1]}, {"moe": 0},
    {"compile": True}, {"compile": "max-autotune"}, {"lr": 1}, {"pretrain": None}, {"tile": "auto"}, {"tile": 48},
    {"training_dataset": {"df2k": 2, "lsdir": 0.5}}, {"losses": {"l1": 1.0, "my.py:Edge": {"weight": 0.1}}},
    {"betas": [0.9, 0.99]}, {"model": "net.py:Net", "model_args": {"width": 3}},
)  # fmt: skip
MISTAKES: tuple[dict[str, Any], ...] = (
    {"batch_sizes": 8}, {"batch_size": "8"}, {"batch_size": 0}, {"batch_size": 8.5}, {"scale": 5}, {"moe": "yes"},
    {"moe": 2}, {"lr": 0}, {"lr": "fast"}, {"precision": "fp8"}, {"eval_sets": [["Set5"]]}, {"gpu_ids": -1},
    {"compile": "fast"}, {"training_dataset": {"df2k": 0}}, {"betas": [0.9]}, {"losses": ["l1"]}, {"seed": None},
)  # fmt: skip


def valid(config: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(config)


def accepted(config: dict[str, Any]) -> bool:
    try:
        make_config(config)
    except ConfigError:
        return False
    return True


def test_the_shipped_schema_is_what_the_code_says(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--list-keys", "json"])
    assert ended.value.code == 0
    advice = "python -m ssiu train --list-keys json > configs/schema.json"
    assert capsys.readouterr().out == (CONFIGS / "schema.json").read_text(), advice
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert list(SCHEMA["properties"]) == list(Config.model_fields)
    assert all(key["description"] for key in SCHEMA["properties"].values())


def test_every_shipped_config_names_the_schema_and_follows_it() -> None:
    files = sorted({*CONFIGS.rglob("*.yml")} - {*CONFIGS.glob("studies/*.yml")})
    assert len(files) > 10
    for file in files:
        text = file.read_text(encoding="utf-8")
        path = os.path.relpath(CONFIGS / "schema.json", file.parent)
        assert text.startswith(f"# yaml-language-server: $schema={path}\n"), file
        jsonschema.validate(read_yaml(text), SCHEMA)


def test_schema_and_code_accept_and_refuse_the_same() -> None:
    for config in WRITTEN_IN_SEVERAL_WAYS:
        assert (valid(config), accepted(config)) == (True, True), config
    for config in MISTAKES:
        assert (valid(config), accepted(config)) == (False, False), config

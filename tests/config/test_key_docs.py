"""The table of config keys, in the terminal and in docs/keys.md."""

from pathlib import Path

import pytest

from ssiu.cli import train as command
from ssiu.config.key_docs import config_keys, keys_markdown
from ssiu.config.schema import Config

ROOT = Path(__file__).parents[2]


def test_the_page_in_docs_is_what_the_code_says():
    page = (ROOT / "docs/keys.md").read_text()
    assert page == keys_markdown(), "python -m ssiu train --list-keys markdown > docs/keys.md"


def test_every_key_has_type_default_and_meaning():
    keys = {key.name: key for key in config_keys()}
    assert list(keys) == list(Config.model_fields)
    assert all(key.type and key.meaning for key in keys.values())
    assert keys["batch_size"][1:3] == ("whole number from 1 to 65,536", "40")
    assert keys["tile"].type == "auto or whole number from 0"
    assert keys["patch_size"].default == "256" and keys["pretrain"].default == ""


def test_the_keys_are_printed_without_a_config(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--list-keys"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "batch_size: 40  (whole number from 1 to 65,536)\n    patches per batch" in printed
    assert all(f"\n{name}: " in f"\n{printed}" for name in Config.model_fields)

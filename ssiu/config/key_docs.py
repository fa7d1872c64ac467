"""All config keys, made from the config's own fields: ``ssiu train --list-keys``, docs/keys.md, configs/schema.json."""

import argparse
import json
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

from ssiu.config.schema import Config

NAMES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "empty"}

PAGE = """# Every key of a config

Keys are given in a YAML file (`batch_size: 16`) or on the command line (`batch_size=16`), which wins. This page is
made from `ssiu/config/schema.py` by `python -m ssiu train --list-keys markdown > docs/keys.md`.

An editor with a YAML language server (in VS Code the extension "YAML" by Red Hat) completes and checks a config while
you write it. The first line of the config names the schema:

```yaml
# yaml-language-server: $schema=schema.json
```

The shipped configs have that line. `python -m ssiu train --list-keys json > schema.json` writes the schema for others.

| key | type | default | meaning |
|---|---|---|---|
"""


class Key(NamedTuple):
    """A key as it is shown."""

    name: str
    type: str
    default: str
    meaning: str


def config_keys() -> list[Key]:
    """All keys in the order of the config; a default that follows from other keys is that of the default config."""
    defaults = Config().model_dump(mode="json")
    fields = Config.model_json_schema(mode="serialization")["properties"]  # one spelling of each value
    return [Key(name, _type(field), _value(defaults[name]), field["description"]) for name, field in fields.items()]


def keys_text(width: int) -> str:
    """For a terminal of ``width`` columns."""
    lines = []
    for key in config_keys():
        lines.append(f"{key.name}: {key.default}".rstrip() + f"  ({key.type})")
        lines += textwrap.wrap(key.meaning, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def keys_markdown() -> str:
    """The page docs/keys.md."""
    cells = (
        [f"`{key.name}`", key.type, f"`{key.default}`" if key.default else "", key.meaning] for key in config_keys()
    )
    return PAGE + "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in cells)


def keys_json() -> str:
    """The JSON schema configs/schema.json, by which an editor completes and checks a config while it is written.

    Rules between keys, and of names and paths, are not in it: `load_config` checks them.
    """
    about = {"title": "A config of ssiu", "description": "Every key: docs/keys.md"}
    return json.dumps(Config.model_json_schema() | about, indent=1) + "\n"


FORMS: dict[str, Callable[[], str]] = {
    "text": lambda: keys_text(100) + "\n",
    "markdown": keys_markdown,
    "json": keys_json,
}


class ListKeys(argparse.Action):
    """``--list-keys [text|markdown|json]`` prints the keys and ends the command, whatever else it asks for."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, value: Any, option: Any = None) -> None:
        print(FORMS[value or "text"](), end="")
        parser.exit()


def _type(field: dict[str, Any]) -> str:
    """The JSON schema of a field in words."""
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field["type"] == "array":
        items = field.get("items") or field["prefixItems"][0]
        return f"{field['maxItems']} of: {_type(items)}" if "prefixItems" in field else f"list of: {_type(items)}"
    if field["type"] == "object":
        return "names with values"
    limits = [f"{word} {field[limit]:,}" for limit, word in LIMITS.items() if limit in field]
    return " ".join([NAMES[field["type"]], *limits])


LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def _value(value: Any) -> str:
    """As it stands in a YAML file."""
    if value is None:
        return ""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()

"""Reading a config: YAML files and ``key=value`` words into a checked `Config`.

The command line wins over the file: ``load_config("configs/SSUFSR_light_x2.yml", ["lr=5e-4", "eval_sets=[Set5]"])``.
"""

import difflib
import re
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ssiu.config.schema import KEYS_OF_NETWORKS, Config
from ssiu.config.yaml import read_yaml
from ssiu.errors import ConfigError, MissingInputError
from ssiu.files import PACKAGE, require_file
from ssiu.plugins import is_plugin

MAX_CONFIG_BYTES = 1_000_000
SHIPPED_CONFIGS = (PACKAGE.parent / "configs", PACKAGE / "configs")  # of a clone, and of an installed package


def _parse(text: str, where: str, text_keys: Collection[str]) -> Any:
    try:
        return read_yaml(text, text_keys)
    except (yaml.YAMLError, AttributeError, KeyError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}{line}: not a readable YAML value: {problem}") from None


def _holds_text(field: dict[str, Any]) -> bool:
    """Whether a key of this JSON schema holds a name or a path, or a list of them; choices are neither."""
    kinds = [each.get("items", each) for each in field.get("anyOf", [field])]
    return any(kind.get("type") == "string" and not {"enum", "const"} & kind.keys() for kind in kinds)


TEXT_KEYS = [key for key, field in Config.model_json_schema()["properties"].items() if _holds_text(field)]
"""Names and paths, which may look like numbers."""


def _parse_override(key: str, value: str) -> Any:
    """A text key takes what was typed, ``a #b`` too; lists, quoted text and null are YAML there as everywhere."""
    if key in TEXT_KEYS and not re.fullmatch(r"[\[{\"'].*|~|null|\s*", value, re.DOTALL):
        return value
    values = _parse(f"{key}: {value}", f"command line, '{key}'", TEXT_KEYS)
    if values.keys() != {key}:
        raise ConfigError(f"command line: expected {key}=value with one value, got {value!r:.80}")
    return values[key]


OTHER_WORDS = {
    "learning_rate": "lr", "workers": "threads", "num_workers": "threads", "iterations": "max_iterations",
    "total_iter": "max_iterations", "weights": "pretrain", "checkpoint": "pretrain", "name": "log_name",
    "dataset": "training_dataset", "patch": "patch_size", "batch": "batch_size", "amp": "precision",
}  # fmt: skip
"""What other codebases call some of our keys."""


def refuse_options_that_are_keys(argv: Iterable[str]) -> None:
    """ConfigError (78) for ``--batch_size 16`` on the command line, saying how the key is given."""
    argv = list(argv)
    for position, argument in enumerate(argv):
        name, equals, value = argument.removeprefix("--").partition("=")
        key = OTHER_WORDS.get(name.replace("-", "_"), name.replace("-", "_"))
        if argument.startswith("--") and key in Config.model_fields:
            following = argv[position + 1] if position + 1 < len(argv) else ""
            value = value if equals else "VALUE" if not following or following.startswith("--") else following
            given = shlex.quote(f"{key}={value}")
            raise ConfigError(f"command line: keys are given without dashes: {given} instead of --{name}")


def _unknown(key: str, where: str) -> ConfigError:
    if key in ("base", "variants", "seeds"):
        return ConfigError(f"{where}: {key!r} is a key of a study: ssiu study runs it")
    if key in OTHER_WORDS:
        return ConfigError(f"{where}: unknown key {key!r}; here it is called '{OTHER_WORDS[key]}'")
    near = difflib.get_close_matches(key, [*Config.model_fields, *OTHER_WORDS], n=1, cutoff=0.6)
    hint = f"known keys: {', '.join(Config.model_fields)}"
    if near:
        hint = f"did you mean '{OTHER_WORDS.get(near[0], near[0])}'?"
    return ConfigError(f"{where}: unknown key {key!r}; {hint}")


def make_config(values: dict[str, Any], where: str = "config") -> Config:
    """Checks ``values`` and returns the Config; raises ConfigError (78) naming ``where`` and every bad key."""
    for key in values:
        if key not in Config.model_fields:
            raise _unknown(str(key), where)
    try:
        return Config(**values)
    except ValidationError as error:
        expected: dict[tuple[str, str], list[str]] = {}  # a value that might be of several kinds has an error of each
        deepest: dict[tuple, int] = {}  # the kind that is meant has its error inside: of {df2k: 0} the 0 is wrong
        for item in error.errors(include_url=False):
            deepest[item["loc"][:1]] = max(len(item["loc"]), deepest.get(item["loc"][:1], 0))
        for item in error.errors(include_url=False):
            if item["type"] == "default_factory_not_called":  # it needs another key, which is wrong
                continue
            if len(item["loc"]) < deepest[item["loc"][:1]]:
                continue
            ends = (f"key '{item['loc'][0]}': expected ", f", got {item['input']!r:.80}") if item["loc"] else ("", "")
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected.setdefault(ends, []).append(message)
        problems = (start + " or ".join(dict.fromkeys(kinds)) + end for (start, end), kinds in expected.items())
        raise ConfigError(f"{where}: {'; '.join(problems)}") from None


def find_config(path: str | Path) -> Path:
    """``path`` itself, or the shipped config of that name: ``SSUFSR_light_x4``, ``pretrain/SSIU_x4``."""
    path = Path(path)
    if path.name and not path.is_file() and not path.is_absolute() and ".." not in path.parts:
        name = path.with_suffix(".yml")
        name = name.relative_to("configs") if name.parts[:1] == ("configs",) else name
        return next((folder / name for folder in SHIPPED_CONFIGS if (folder / name).is_file()), path)
    return path


def read_values(path: Path, expected: str, text_keys: Collection[str] = ()) -> dict[str, Any]:
    """The mapping in the YAML file ``path``; ``expected`` says what that is, for messages.

    Raises MissingInputError (66) when the file is absent and ConfigError (78) when it holds anything else.
    """
    try:
        require_file(path, expected)
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                f"{path}: {path.stat().st_size:,} bytes is too much for a config file; expected a short YAML file"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingInputError(f"cannot read {path}: {error.strerror}; expected {expected}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; expected YAML with one 'key: value' a line") from None
    values = _parse(text, str(path), text_keys)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got a {type(values).__name__}")
    return values


def _find_values(path: Path) -> tuple[dict[str, Any], Path]:
    """What a config says, and where it was found."""
    try:
        path = find_config(path)
    except OSError as error:
        raise MissingInputError(
            f"cannot read the config {path}: {error.strerror}; configs/ holds the shipped ones"
        ) from None
    return read_values(path, "a YAML config, or the name of one in configs/", TEXT_KEYS), path


def load_config(path: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Reads the YAML file ``path`` (or a shipped one by its name), applies ``key=value`` overrides, checks everything.

    Without a file every other key has its default. Raises MissingInputError (66) when the file is absent and
    ConfigError (78) for anything wrong inside.
    """
    values, path = ({}, None) if path is None else _find_values(Path(path))
    given: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"command line: expected key=value, got {override!r}")
        if key not in Config.model_fields:
            raise _unknown(key, "command line")
        given[key] = _parse_override(key, value)
    unsaid: list[str] = []  # in the file: the command line wins
    if given.get("losses"):
        unsaid += ("lambda_l1", "lambda_fft")
    if is_plugin(str(given.get("model"))):
        unsaid += KEYS_OF_NETWORKS
    if is_plugin(str(given.get("optimizer"))):
        unsaid += ("betas", "weight_decay")
    if given.get("pretrain") or given.get("init_trunk"):
        unsaid += ("pretrain", "init_trunk")
    values = {key: value for key, value in values.items() if key not in unsaid} | given
    where = "command line" if path is None else f"{path} with the command line" if given else str(path)
    return make_config(values, where)

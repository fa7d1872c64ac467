"""A study: one base config, named variants of it, and seeds; every variant is trained with every seed.

base: SSUFSR_light_x4               # as --config names it
common: {max_iterations: 100_000}   # for all runs; may be left out
seeds: [1, 2, 3]
variants:                           # the first is what the others are compared with
  whole: {}
  no_moe: {moe: false}
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ssiu.config.changes import in_one_spelling
from ssiu.config.load import find_config, load_config, make_config, read_values
from ssiu.config.schema import Config
from ssiu.errors import ConfigError

KEYS = ("base", "common", "seeds", "variants")
OWN = {"seed": "put it into 'seeds'", "log_name": "a run is named after its variant and seed"}
SAME = ("scale", "eval_sets", "self_ensemble")
"""What the variants of a study have in common: else their scores do not compare."""


@dataclass(frozen=True)
class StudyRun:
    """One training of a study and where it lies: ``config.run_folder``, called ``{variant}_seed{seed}``."""

    variant: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """``no_moe_seed1``."""
        return self.config.run_name


@dataclass(frozen=True)
class Study:
    """The runs of the study ``name``, all of a seed before those of the next; ``folder`` holds their folders."""

    name: str
    folder: Path
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[StudyRun, ...]


def load_study(path: str | Path, overrides: Iterable[str] = ()) -> Study:
    """Reads a study file, or a shipped one by its name; ``key=value`` overrides win over base and variants.

    The study's folder is ``log_path`` and the name of the file. Raises MissingInputError (66) for a file that is not
    there and ConfigError (78) for anything wrong in it, in its base or in a variant.
    """
    overrides = list(overrides)
    path = find_config(path)
    values = read_values(path, "a study, such as configs/studies/tables3_4.yml")
    if unknown := [key for key in values if key not in KEYS]:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}; a study has {', '.join(KEYS)}")
    base, seeds = values.get("base"), _seeds(values.get("seeds"), path)
    if not isinstance(base, str):
        raise ConfigError(f"{path}: key 'base': expected a config, as --config names it, got {base!r:.80}")
    common = _settings(values.get("common"), f"{path}: key 'common'")
    variants = _variants(values.get("variants"), path)
    if clash := [word for word in overrides if word.partition("=")[0].strip() in OWN]:
        raise ConfigError(f"command line: {clash[0]}: {OWN[clash[0].partition('=')[0].strip()]}")
    configs: dict[str, Config] = {}
    for name, own in variants.items():
        try:
            configs[name] = load_config(base, [*_words(common | own), *overrides])
        except ConfigError as error:
            raise ConfigError(f"{path}, variant {name}: {error}") from None
    _refuse_incomparable(configs, path)
    folder = Path(configs[next(iter(configs))].log_path) / path.stem
    runs = [
        StudyRun(name, seed, _with(config, seed=seed, log_path=str(folder), log_name=f"{name}_seed{seed}"))
        for seed in seeds
        for name, config in configs.items()
    ]
    return Study(path.stem, folder, tuple(configs), seeds, tuple(runs))


def all_settings(config: Config) -> dict[str, Any]:
    """Every key but those that only name the run, so that two runs that do the same are equal."""
    settings = in_one_spelling(config.model_dump(mode="json"))
    return {key: value for key, value in settings.items() if key not in ("log_path", "log_name")}


def _with(config: Config, **changes: Any) -> Config:
    return make_config({**config.model_dump(), **changes})


def _words(settings: Mapping[str, Any]) -> list[str]:
    """As they are given on the command line; JSON is YAML."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def _seeds(value: Any, path: Path) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(seed) is int for seed in value)
    if not whole or not value or len(set(value)) < len(value):
        raise ConfigError(
            f"{path}: key 'seeds': expected different whole numbers, such as [1, 2, 3], got {value!r:.80}"
        )
    return tuple(value)


def _settings(value: Any, where: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{where}: expected settings, such as {{moe: false}}, got {value!r:.80}")
    if own := [key for key in value or {} if key in OWN]:
        raise ConfigError(f"{where}: {own[0]}: {OWN[own[0]]}")
    return value or {}


def _variants(value: Any, path: Path) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{path}: key 'variants': expected names with their settings, got {value!r:.80}")
    if len({name.lower() for name in value}) < len(value):
        raise ConfigError(f"{path}: key 'variants': two names differ in case only, as no folders may")
    return {name: _settings(settings, f"{path}, variant {name}") for name, settings in value.items()}


def _refuse_incomparable(configs: dict[str, Config], path: Path) -> None:
    first, one = next(iter(configs.items()))
    if not one.eval_sets:
        raise ConfigError(f"{path}: key 'eval_sets': empty, so nothing would be compared; name sets in base or common")
    for name, config in configs.items():
        for key in (*SAME, "data_path", "log_path"):
            if getattr(config, key) != getattr(one, key):
                raise ConfigError(
                    f"{path}, variant {name}: {key}: {getattr(config, key)}, but {getattr(one, key)} in {first}; "
                    "all variants of a study have the same: set it in base or common"
                )
    for (name, config), (other, its) in combinations(configs.items(), 2):
        if all_settings(config) == all_settings(its):
            raise ConfigError(f"{path}: {name} and {other} are the same training; leave one of them out")

"""Whatever stands in a config file, loading it gives a config or exit 78, and never runs anything."""

import time
from pathlib import Path

import pytest
import yaml
from faults import in_child, record_effects
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssiu.config.load import load_config
from ssiu.config.schema import Config
from ssiu.errors import ConfigError

TAGS = (
    "!!python/object/apply:os.system ['touch {}']", "!!python/object/apply:builtins.exec ['open(\"{}\", \"w\")']",
    "!!python/object/new:os.system ['touch {}']", "!!python/object/apply:subprocess.Popen [['touch', '{}']]",
    "!!python/name:os.system ''", "!!python/module:os ''", "!!python/object:ssiu.config.schema.Config {{}}",
    "!!python/object/apply:pathlib.Path.touch ['{}']", "!!python/tuple [1]", "!!python/bytes 'eA=='", "!local x",
    "!!binary eA==", "!!set {{a}}",
)  # fmt: skip
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["0", "1e-3", "no", ""])
)
VALUES = st.one_of(
    ODD, st.integers(0, 300), st.floats(0, 2), st.lists(ODD, max_size=3), st.dictionaries(ODD, ODD, max_size=2)
)
KEYS = st.one_of(st.sampled_from(sorted(Config.model_fields)), st.text(max_size=8))


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_refused_and_nothing_happens(tmp_path: Path, tag: str) -> None:
    victim, config = tmp_path / "victim", tmp_path / "config.yml"
    config.write_text(f"model: {tag.format(victim)}\n")

    def load() -> list[str]:
        events = record_effects()
        with pytest.raises(ConfigError, match=r"tag|'model'"):
            load_config(config)
        return events

    code, events = in_child(load)
    assert code == 0 and events == [] and not victim.exists(), events


def check(path: Path, document: dict) -> None:
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    start = time.process_time()
    try:
        config = load_config(path)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        path.write_text(config.to_yaml(), encoding="utf-8")
        assert load_config(path) == config
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("examples", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_any_document_is_a_config_or_one_line(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(KEYS, VALUES, max_size=4))
    def run(document: dict) -> None:
        check(tmp_path / "config.yml", document)

    run()


@pytest.mark.parametrize("key", sorted(Config.model_fields))
def test_every_key_refuses_what_it_cannot_mean(tmp_path: Path, key: str) -> None:
    for value in ({"a": -1}, [[1]], b"x"):
        (tmp_path / "config.yml").write_text(yaml.safe_dump({key: value}))
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "config.yml")
        assert caught.value.exit_code == 78 and "\n" not in str(caught.value)

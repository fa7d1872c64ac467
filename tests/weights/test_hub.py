"""Weights named hf:owner/name, against a stand-in of the hub: the second time, no network, and what is refused."""

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_fixture import hub_at_work
from hub_server import Hub
from small_sets import photo, small_set
from tiny import equal, tiny
from tiny_run import make_data, tiny_config

from ssiu.cli import prepare, upscale
from ssiu.cli import test as test_command
from ssiu.config.load import load_config
from ssiu.errors import BadInputError, BusyError, ConfigError, MissingInputError, SSIUError
from ssiu.images.io import read_rgb, save_image
from ssiu.training.trainer import Trainer
from ssiu.weights.formats import read_weights, save_weights
from ssiu.weights.hub import obtain, with_commits
from ssiu.weights.load import load_model


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with hub_at_work(tmp_path_factory.mktemp("huggingface")) as hub:
        yield hub


def content(folder: Path, seed: int = 0) -> bytes:
    """A file of weights of a small x2 network."""
    save_weights(folder / "weights.safetensors", tiny(2, seed=seed))
    return (folder / "weights.safetensors").read_bytes()


def test_upscale_takes_weights_from_the_hub_with_an_empty_cache_and_then_without_a_network(
    hub: Hub, tmp_path: Path
) -> None:
    hub.push("ann/first", model__safetensors=content(tmp_path), README__md=b"text", old__pt=b"pickled")
    save_image(tmp_path / "a.png", photo("chelsea", 20, 30))

    def upscaled(weights: object, name: str) -> bytes:
        upscale.main([str(tmp_path / "a.png"), "--output", str(tmp_path / name), "--weights", str(weights)])
        return read_rgb(tmp_path / name).tobytes()

    expected = upscaled(tmp_path / "weights.safetensors", "here.png")
    assert upscaled("hf:ann/first", "hub.png") == expected
    assert not [asked for asked in hub.requests if "old.pt" in asked or "README" in asked]
    with hub.without_network():
        assert upscaled("hf:ann/first", "again.png") == expected
        assert upscaled("hf:ann/first@main/model.safetensors", "named.png") == expected


def test_a_file_in_the_cache_is_not_sent_again_and_a_commit_is_not_asked_about(hub: Hub, tmp_path: Path) -> None:
    commit = hub.push("ann/second", model__safetensors=content(tmp_path))
    first, source = obtain("hf:ann/second")
    hub.requests.clear()
    assert obtain("hf:ann/second") == (first, source)
    assert not [asked for asked in hub.requests if asked.startswith("GET /ann/")]
    hub.requests.clear()
    assert str(source) == f"hf:ann/second@{commit}/model.safetensors"
    assert obtain(str(source)) == (first, source) and hub.requests == []
    newer = hub.push("ann/second", model__safetensors=content(tmp_path, seed=1))
    assert obtain("hf://ann/second")[1].revision == newer
    assert equal(load_model(str(source)).state_dict(), tiny(2).state_dict()), "the commit stays what it was"


def test_a_file_is_found_by_its_name_or_because_there_is_only_one(hub: Hub, tmp_path: Path) -> None:
    one, two = content(tmp_path), content(tmp_path, seed=1)
    hub.push("ann/usual", model__safetensors=one, other__safetensors=two)
    hub.push("ann/only", **{"folder/x2__safetensors": two})
    hub.push("ann/several", a__safetensors=one, b__safetensors=two)
    networks = {"hf:ann/usual": 0, "hf:ann/usual/other.safetensors": 1, "hf:ann/only": 1}
    networks |= {"hf:ann/only@main/folder/x2.safetensors": 1, "hf:ann/several/a.safetensors": 0}
    for source, seed in networks.items():
        assert equal(load_model(source).state_dict(), tiny(2, seed=seed).state_dict()), source
    assert read_weights("hf:ann/only").path.name == "x2.safetensors"


def test_what_cannot_be_had_is_one_line_that_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(tiny(2).state_dict(), buffer)
    hub.push("ann/pickles", model__pt=buffer.getvalue(), pytorch_model__bin=b"")
    hub.push("ann/two", a__safetensors=b"", b__safetensors=b"")
    hub.push("ann/damaged", model__safetensors=b"<html>")
    hub.push("ann/fine", model__safetensors=content(tmp_path))
    hub.refused["ann/gated"] = "GatedRepo"
    cases: list[tuple[str, type[SSIUError], str]] = [
        ("hf:ann/pickles", BadInputError, r"no safetensors among its files \(model.pt, pytorch_model.bin\)"),
        ("hf:ann/fine/model.pt", BadInputError, "only safetensors are fetched"),
        ("hf:ann/fine/model.onnx", BadInputError, "only safetensors are fetched"),
        ("hf:ann/damaged", BadInputError, "not a safetensors file"),
        ("hf:ann/two", ConfigError, r"several files \(a.safetensors, b.safetensors\); add /FILE"),
        ("hf:ann/fine/other.safetensors", MissingInputError, "no such file"),
        ("hf:ann/fine@v9", MissingInputError, "no such revision"),
        ("hf:ann/absent", MissingInputError, "no such model repository"),
        ("hf:ann/gated", MissingInputError, "give it at http://.*/ann/gated"),
        ("hf:ann", ConfigError, "expected hf:owner/name"),
        ("hf:ann/fine/../../x.safetensors", ConfigError, "expected hf:owner/name"),
        ("hf:ann/white space", ConfigError, "Repo id must use"),
        ("hf:../..", ConfigError, "Repo id must use"),
    ]
    for source, kind, line in cases:
        with pytest.raises(kind, match=line) as raised:
            load_model(source)
        assert "\n" not in str(raised.value), source
    save_image(tmp_path / "a.png", photo("chelsea", 20, 30))
    with pytest.raises(BadInputError, match="only safetensors are fetched"):
        upscale.main([str(tmp_path / "a.png"), "--output", str(tmp_path / "b.png"), "--weights", "hf:ann/fine/a.onnx"])
    with hub.without_network():
        for source in ("hf:ann/other", "hf:ann/fine/other.safetensors", f"hf:ann/fine@{'0' * 40}/model.safetensors"):
            with pytest.raises(BusyError, match=r"cannot be reached( \(.*refused\); try again|, and the cache)"):
                load_model(source)


def test_without_the_package_it_is_said_which_one_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="not installed: pip install huggingface_hub"):
        load_model("hf:ann/name")


def test_results_record_the_commit_and_can_be_made_again_from_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.push("ann/scored-net", model__safetensors=content(tmp_path))
    small_set(tmp_path / "data", 2)
    monkeypatch.chdir(tmp_path)
    keys = [f"data_path={tmp_path}/data", "n_feats=8", "n_blocks=3", "eval_sets=[Set5]", "device=cpu"]
    test_command.main(["--config", "SSUFSR_light_x2", *keys, "pretrain=hf:ann/scored-net"])
    exact, results = f"hf:ann/scored-net@{commit}/model.safetensors", tmp_path / "results/scored-net_x2"
    assert load_config(results / "config.yml").pretrain == exact
    summary = json.loads((results / "summary.json").read_text())
    assert summary["checkpoint"] == exact
    hub.push("ann/scored-net", model__safetensors=content(tmp_path, seed=1))
    with hub.without_network():
        test_command.main(["--config", str(results / "config.yml"), "--output", "again"])
    assert json.loads((tmp_path / "again/summary.json").read_text()) == summary


def test_a_training_records_the_commit_it_started_from_and_goes_on_with_it(hub: Hub, tmp_path: Path) -> None:
    commit = hub.push("ann/start", model__safetensors=content(tmp_path))
    make_data(tmp_path / "data")
    settings = {"num_heads": 4, "pretrain": "hf:ann/start"}
    Trainer(tiny_config(tmp_path, **settings, max_iterations=2)).run()
    exact = f"hf:ann/start@{commit}/model.safetensors"
    assert load_config(tmp_path / "logs/run/config.yml").pretrain == exact
    hub.push("ann/start", model__safetensors=content(tmp_path, seed=1))
    with hub.without_network():  # nothing of it is needed any more
        shutil.rmtree(obtain(exact)[0].parents[2])
        Trainer(tiny_config(tmp_path, **settings, max_iterations=3), "auto", allow_changes=True).run()
    assert load_config(tmp_path / "logs/run/config.yml").pretrain == exact
    for other in ("hf:ann/other", f"hf:ann/start@{'0' * 40}", "hf:ann/start/other.safetensors"):
        with pytest.raises(ConfigError, match=f"pretrain: {exact} -> {other}"):
            Trainer(tiny_config(tmp_path, **settings | {"pretrain": other}, max_iterations=3), "auto")


def test_a_trunk_may_be_on_the_hub_too(hub: Hub, tmp_path: Path) -> None:
    commit = hub.push("ann/trunk", model__safetensors=content(tmp_path))
    config = with_commits(tiny_config(tmp_path, init_trunk="hf:ann/trunk"))
    assert config.init_trunk == f"hf:ann/trunk@{commit}/model.safetensors" and config.pretrain is None


def test_a_set_taught_by_a_network_of_the_hub_says_which_commit(hub: Hub, tmp_path: Path) -> None:
    commit = hub.push("ann/teacher", model__safetensors=content(tmp_path))
    (tmp_path / "photos").mkdir()
    save_image(tmp_path / "photos/a.png", photo("chelsea", 48, 64))
    arguments = [str(tmp_path / "photos"), "--output", str(tmp_path / "mine"), "--scales", "2"]
    prepare.main([*arguments, "--teacher", "hf:ann/teacher", "--device", "cpu"])
    (card,) = tmp_path.glob("mine_teacher/*.json")
    assert json.loads(card.read_text())["teacher"] == f"hf:ann/teacher@{commit}/model.safetensors"

"""ssiu export hub and openmodeldb: what is in the folder, that the hub takes it, and what others read from it."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import torch
import yaml
from hub_fixture import hub_at_work
from hub_server import Hub
from tiny import equal, tiny

from ssiu.cli.export import main
from ssiu.errors import BadInputError, BusyError, ConfigError, OutputError
from ssiu.images.io import read_rgb
from ssiu.weights.formats import read_weights, save_weights
from ssiu.weights.load import load_model
from ssiu.weights.zoo import read_zoo

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with hub_at_work(tmp_path_factory.mktemp("huggingface")) as hub:
        yield hub


def head_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_shipped_weights_are_exported_with_what_the_zoo_says_of_them(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    source = ROOT / "pretrain_model/SSIU_x4.safetensors"
    main(["hub", str(source), str(tmp_path / "folder")])
    folder = tmp_path / "folder"
    assert (folder / "model.safetensors").read_bytes() == source.read_bytes(), "its sha256 is the zoo's"
    config = json.loads((folder / "config.json").read_text())
    assert config["arguments"] == load_model(source).arguments() and config["architectures"] == ["SSIU"]
    head, (_, zoo) = head_of(folder), read_zoo()
    known = next(each for each in zoo.weights if each.file == source.name)
    assert (head["library_name"], head["pipeline_tag"]) == ("ssiu", "image-to-image")
    assert (head["license"], head["license_name"]) == ("other", "academic-research-only")
    assert (head["datasets"], head["metrics"]) == (list(known.data), ["psnr", "ssim"])
    assert (head["base_model"], head["base_model_relation"]) == ("OWNER/SSIU_x2", "finetune")
    first = head["model-index"][0]["results"][0]
    assert (first["dataset"]["name"], first["metrics"][0]["value"]) == ("Set5", known.scores["standard"]["Set5"].psnr)
    read = ModelCard.load(folder / "README.md").data.eval_results  # by the hub's own library
    assert {(each.dataset_name, each.metric_type) for each in read} >= {("Set5", "psnr"), ("B100", "ssim")}
    text = (folder / "README.md").read_text()
    assert known.summary[:60] in text and "hf:OWNER/SSIU_x4" in text
    for image in re.findall(r"!\[.*\]\((.*)\)", text):
        assert read_rgb(folder / image).shape == (240, 360, 3)
    assert (read_rgb(folder / "sr.png") != read_rgb(folder / "bicubic.png")).any()


def test_weights_of_ones_own_say_what_the_command_line_says(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save(tiny(2).state_dict(), tmp_path / "mine.pt")
    mean = {"mine_val": {"psnr": 30.5, "ssim": 0.9, "images": 2}}
    summary = {"weights_sha256": read_weights(tmp_path / "mine.pt").sha256, "precision": "fp32", "self_ensemble": False}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"protocols": {"standard": mean}}))
    main(["hub", str(tmp_path / "mine.pt"), str(tmp_path / "plain")])
    said = capsys.readouterr().out
    for option in ("--license", "--scores", "--dataset"):
        assert option in said
    assert not head_of(tmp_path / "plain").keys() & {"license", "metrics", "datasets", "base_model"}
    options = ["--license", "Apache-2.0", "--dataset", "mine", "--base-model", "ann/start"]
    main(["hub", str(tmp_path / "mine.pt"), str(tmp_path / "a"), *options, "--scores", str(tmp_path / "summary.json")])
    head = head_of(tmp_path / "a")
    assert (head["license"], head["datasets"], head["base_model"]) == ("apache-2.0", ["mine"], "ann/start")
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 30.5
    assert "--license" not in capsys.readouterr().out
    assert equal(load_model(tmp_path / "a/model.safetensors").state_dict(), tiny(2).state_dict())
    save_weights(tmp_path / "other.safetensors", tiny(2, seed=1))
    with pytest.raises(BadInputError, match="scores of other weights"):
        main(
            [
                "hub",
                str(tmp_path / "other.safetensors"),
                str(tmp_path / "b"),
                "--scores",
                str(tmp_path / "summary.json"),
            ]
        )
    (tmp_path / "a/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files, such as notes\.txt"):
        main(["hub", str(tmp_path / "mine.pt"), str(tmp_path / "a")])


def test_what_is_pushed_can_be_loaded_by_its_name(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    save_weights(tmp_path / "mine.safetensors", tiny(2))
    arguments = ["hub", str(tmp_path / "mine.safetensors"), str(tmp_path / "folder"), "--push", "ann/pushed"]
    with pytest.raises(ConfigError, match="does not let you write there; hf auth login") as raised:
        main(arguments)
    assert "\n" not in str(raised.value) and "ann/pushed" not in hub.repos
    monkeypatch.setenv("HF_TOKEN", "secret")
    (tmp_path / "folder/.DS_Store").write_text("of a system")
    for turn in (1, 2):  # the second time the repository is there
        main(arguments)
        assert f"pushed: {hub.url}/ann/pushed/commit/" in capsys.readouterr().out, turn
    there = hub.repos["ann/pushed"][-1]
    assert there.keys() == {"config.json", "model.safetensors", "README.md", "bicubic.png", "sr.png"}
    assert b"hf:ann/pushed" in there["README.md"]
    assert equal(load_model("hf:ann/pushed").state_dict(), tiny(2).state_dict())
    with hub.without_network(), pytest.raises(BusyError, match=r"did not take it .*try again later"):
        main(arguments)
    with pytest.raises(ConfigError, match="--push a/b/c: Repo id must be"):
        main([*arguments[:-1], "a/b/c"])


TEXT, NUMBER = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}
RESOURCE = {
    "platform": {"enum": ["pytorch", "onnx", "ncnn"]},
    "type": {"enum": ["pth", "safetensors", "onnx"]},
    "size": NUMBER,
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "urls": {"type": "array", "items": {"type": "string", "pattern": "^https://"}, "minItems": 1},
}
MODEL = {  # what OpenModelDB's own check asks of a file of data/models
    "name": TEXT,
    "author": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
    "license": TEXT,
    "tags": {"type": "array", "items": TEXT, "minItems": 1},
    "description": {"type": "string", "pattern": r"^\S(.|\n)*\S$"},
    "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
    "architecture": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
    "size": {"type": ["array", "null"]},
    "scale": NUMBER,
    "inputChannels": NUMBER,
    "outputChannels": NUMBER,
    "resources": {
        "type": "array",
        "items": {"properties": RESOURCE, "required": list(RESOURCE), "additionalProperties": False},
    },
    "trainingIterations": NUMBER,
    "dataset": TEXT,
    "datasetSize": NUMBER,
    "images": {"type": "array"},
}


def test_openmodeldbs_files_are_of_its_form_and_name_the_file_on_the_hub(tmp_path: Path) -> None:
    main(["openmodeldb", str(tmp_path / "models"), "--owner", "ann"])
    names = {path.name: path for path in (tmp_path / "models").iterdir()}
    assert names.keys() == {"2x-SSIU.json", "3x-SSIU.json", "4x-SSIU.json", "2x-IDSA-Net.json", "4x-IDSA-Net.json"}
    schema = {"properties": MODEL, "required": list(MODEL), "additionalProperties": False}
    for name, path in names.items():
        text = path.read_text()
        model = json.loads(text)
        jsonschema.validate(model, schema)
        assert text == json.dumps(model, indent=4, ensure_ascii=False), "no other spacing is accepted"
        assert re.fullmatch(r"\d+x-[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*", path.stem) and name.startswith(
            f"{model['scale']}x-"
        )
    resource = json.loads(names["4x-SSIU.json"].read_text())["resources"][0]
    assert resource["urls"] == ["https://huggingface.co/ann/SSIU_x4/resolve/main/model.safetensors"]
    content = (ROOT / "pretrain_model/SSIU_x4.safetensors").read_bytes()
    assert (resource["size"], resource["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())

"""zoo.json says what the shipped files are, and every card and table says the same."""

import hashlib
import json
from pathlib import Path

import pytest
from tiny import tiny

from ssiu.cli import zoo as command
from ssiu.cli.zoo import zoo_card
from ssiu.errors import BadInputError, ConfigError, MissingInputError
from ssiu.report.cards import readme_table, scores_of
from ssiu.weights import shipped
from ssiu.weights.formats import read_weights, save_weights
from ssiu.weights.load import load_model
from ssiu.weights.zoo import Described, read_zoo

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "pretrain_model"
AGAIN = "python -m ssiu zoo --update"


def test_every_shipped_file_is_in_the_zoo_and_is_what_the_zoo_says() -> None:
    path, zoo = read_zoo()
    assert path == FOLDER / "zoo.json" and path.read_text() == zoo.to_json(), AGAIN
    assert {each.file for each in zoo.weights} == {file.name for file in FOLDER.glob("*.safetensors")}
    for each in zoo.weights:
        content = (FOLDER / each.file).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (each.sha256, each.bytes), each.file
        assert read_weights(FOLDER / each.file).sha256 == each.tensors_sha256, each.file
        network = load_model(FOLDER / each.file)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        assert (network.architecture, network.scale, parameters) == (each.architecture, each.scale, each.parameters)


def test_the_zoo_leaves_nothing_out() -> None:
    _, zoo = read_zoo()
    for each in zoo.weights:
        said = each.model_dump(exclude={"from_weights", "remarks"})
        assert all(said.values()), [key for key, value in said.items() if not value]
        assert (ROOT / each.config).is_file() and (FOLDER / each.metrics).is_file(), each.file
        assert each.data.keys() <= zoo.data_sets.keys(), each.file
        assert each.from_weights in ("", *(other.file for other in zoo.weights)), each.file
        assert each.scores["standard"].keys() == zoo.bicubic[each.scale].keys(), each.file


def test_cards_and_the_readme_are_made_of_the_zoo() -> None:
    _, zoo = read_zoo()
    for each in zoo.weights:
        assert (FOLDER / f"{each.name}.md").read_text() == zoo_card(each, zoo), AGAIN
    assert readme_table(zoo) in (ROOT / "README.md").read_text(), AGAIN


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose zoo has one small network, of which nothing has been computed."""
    folder = tmp_path / "pretrain_model"
    folder.mkdir()
    save_weights(folder / "SSIU_x2.safetensors", tiny(2))
    _, zoo = read_zoo()
    zoo.weights, zoo.bicubic = [Described(file="SSIU_x2.safetensors", summary="Small.", licence="MIT")], {}
    (folder / "zoo.json").write_text(zoo.to_json())
    (tmp_path / "README.md").write_text("before\n" + readme_table(zoo) + "after\n")
    monkeypatch.setattr(shipped, "SHIPPED", (folder,))
    return tmp_path


def test_an_update_computes_what_can_be_computed_and_measures_with_data(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from small_sets import small_set

    path = clone / "pretrain_model/SSIU_x2.safetensors"
    command.main(["--update"])
    each = read_zoo()[1].weights[0]
    assert (each.parameters, each.scale, each.scores) == (sum(p.numel() for p in tiny(2).parameters()), 2, {})
    assert each.tensors_sha256 == read_weights(path).sha256
    monkeypatch.setattr(command, "SETS", "Set5")
    small_set(clone / "data", 2)
    command.main(["--update", "--data", str(clone / "data")])
    _, zoo = read_zoo()
    measured = zoo.weights[0].scores
    assert measured.keys() == {"standard", "official"} and zoo.bicubic[2]["Set5"].psnr > 20
    shown = f"{measured['standard']['Set5'].psnr:.2f} / {measured['standard']['Set5'].ssim:.4f}"
    assert shown in capsys.readouterr().out
    assert shown in (clone / "README.md").read_text() and shown in path.with_suffix(".md").read_text()
    assert (clone / "README.md").read_text().endswith("after\n")

    before = (clone / "pretrain_model/zoo.json").read_text()
    save_weights(path, tiny(2, seed=1))
    with pytest.raises(ConfigError, match="has changed since it was measured; add --data"):
        command.main(["--update"])
    with pytest.raises(ConfigError, match=r"has no other\.safetensors; describe it there first"):
        command.main(["--update", "other.safetensors"])
    assert (clone / "pretrain_model/zoo.json").read_text() == before


@pytest.mark.parametrize(
    ("text", "line"), [('{"weights": []}', "data_sets: Field required"), ("{", "Invalid JSON"), ('{"a": 1}', "")]
)
def test_a_zoo_that_is_none_is_a_line(clone: Path, text: str, line: str) -> None:
    (clone / "pretrain_model/zoo.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"zoo\.json: .*{line}") as raised:
        read_zoo()
    assert "\n" not in str(raised.value)
    (clone / "pretrain_model/zoo.json").unlink()
    with pytest.raises(MissingInputError, match=r"no zoo\.json in"):
        read_zoo()


def test_scores_are_taken_from_results_of_the_same_weights_only(tmp_path: Path) -> None:
    mean = {"Set5": {"psnr": 37.123456789, "ssim": 0.96, "images": 5}}
    summary = {"weights_sha256": "a" * 64, "precision": "fp32", "self_ensemble": False, "protocols": {"standard": mean}}
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(summary))
    assert scores_of([path], "a" * 64)["standard"]["Set5"].psnr == 37.123457
    for changed in ({"weights_sha256": "b" * 64}, {"precision": "bf16"}, {"self_ensemble": True}):
        path.write_text(json.dumps(summary | changed))
        with pytest.raises(BadInputError, match="scores of other weights, or not the plain ones"):
            scores_of([path], "a" * 64)
    for content in ("{}", "[]", "nothing"):
        path.write_text(content)
        with pytest.raises(BadInputError, match=r"not a summary\.json"):
            scores_of([path], "a" * 64)
    with pytest.raises(MissingInputError, match=r"expected a summary\.json"):
        scores_of([tmp_path / "absent.json"], "a" * 64)

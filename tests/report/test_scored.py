"""A network's scores beside bicubic's and the paper's: what the table says, and what is known of the run."""

import math

import pytest
from pages import scored_network

from ssiu.config.load import make_config
from ssiu.evaluation.metrics import Score
from ssiu.evaluation.scores import Evaluation, ImageResult


def _evaluation(protocols, psnr, sets=("Set5", "holiday")):
    scores = {protocol: Score(psnr, 0.89998) for protocol in protocols}
    return Evaluation([ImageResult(name, "a", 30, 30, scores) for name in sets], tuple(protocols))


def _scored(settings=None, **known):
    config = make_config({"scale": 4, **(settings or {})})
    ours, bicubic = _evaluation(("standard", "official"), 32.201), _evaluation(("standard",), 28.0)
    return scored_network(config, [], ours, bicubic, **known)


def test_the_table_names_the_protocol_in_every_column():
    table = _scored().table()
    assert table.header[2:] == [
        "bicubic (standard)", "SSIU (standard)", "SSIU (official)", "paper's SSIU (official)"
    ]  # fmt: skip
    lines = [line.split("  ") for line in table.markdown().replace(" | ", "  ").splitlines()]
    assert lines[-2] == ["| Set5", "1", "28.00 / 0.9000", "32.20 / 0.9000", "32.21 / 0.9000", "32.64 / 0.9032 |"]
    assert lines[-1] == ["| holiday", "1", "28.00 / 0.9000", "32.20 / 0.9000", "32.21 / 0.9000", "- |"]


def test_a_self_ensemble_is_called_so_wherever_its_numbers_stand():
    scored = _scored({"self_ensemble": True, "precision": "bf16"})
    assert (scored.title, scored.table().title) == ("SSIU+ x4", "SSIU+ x4")
    assert scored.table().header[3:] == ["SSIU+ (standard)", "SSIU+ (official)", "paper's SSIU (official)"]
    assert scored.facts()["run"] == "bf16 on CPU, tile 0, x8 self-ensemble"
    summary = scored.summary()
    assert (summary["model"], summary["self_ensemble"], summary["precision"]) == ("SSIU", True, "bf16")


@pytest.mark.parametrize(("parameters", "row"), [(769_000, "paper's ATD (standard)"), (20_100_000, None)])
def test_an_external_network_stands_beside_the_papers_row_of_its_size(tmp_path, parameters, row):
    scored = _scored(architecture="ATD", is_external=True, weights=tmp_path / "ATD_x4.pth", parameters=parameters)
    assert scored.title == "ATD x4, ATD_x4.pth"
    assert scored.table().header[5:] == ([row] if row else [])


def test_remarks_say_whose_images_are_exact():
    images = [ImageResult("Set5", name, 30, 30, {"standard": Score(psnr, 1.0)}) for name, psnr in
              (("a", 29.0), ("b", math.inf), ("c", math.inf))]  # fmt: skip
    exact = Evaluation(images, ("standard",))
    scored = scored_network(make_config({"scale": 2}), [], _evaluation(("standard",), 30.0, ("Set5",)), exact)
    assert "Bicubic, Set5 (standard): 2 of 3 images" in scored.table().notes[0]


def test_a_network_worse_than_interpolation_is_told_what_usually_is_wrong():
    bicubic = _evaluation(("standard",), 28.0)
    for psnr, notes in ((27.99, 1), (28.0, 0), (32.0, 0), (math.inf, 0)):
        scored = scored_network(make_config({"scale": 4}), [], _evaluation(("standard", "official"), psnr), bicubic)
        found = [note for note in scored.table().notes if "below bicubic's on Set5, holiday" in note]
        assert len(found) == notes and all("rgb_range: 255" in note and "BGR" in note for note in found)

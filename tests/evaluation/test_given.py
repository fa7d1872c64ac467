"""What `evaluate` takes in Python: a folder, images in memory, one image of a set; and the examples of the docs."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import photo, small_set
from tiny import tiny

import ssiu.evaluation.evaluate as our_evaluate
from ssiu import evaluate
from ssiu.config.load import make_config
from ssiu.data.test_sets import load_test_set, load_test_sets
from ssiu.errors import BadInputError, ConfigError, MissingInputError
from ssiu.images.bicubic import imresize
from ssiu.inference.networks import Bicubic
from ssiu.weights.formats import save_weights

ROOT = Path(__file__).parents[2]


def test_a_folder_and_images_in_memory_score_as_the_loaded_set(tmp_path):
    loaded = load_test_set(small_set(tmp_path, 2), "Set5", 2)
    expected = evaluate(Bicubic(2), [loaded])
    assert evaluate(Bicubic(2), tmp_path / "benchmark/set5") == expected
    given = [loaded[index][1:] for index in range(3)]
    arrays = evaluate(Bicubic(2), given)
    assert arrays.mean("images") == expected.mean("Set5") and [image.name for image in arrays.images] == ["0", "1", "2"]
    pillow = [tuple(map(Image.fromarray, pair)) for pair in given]
    assert evaluate(Bicubic(2), pillow) == arrays


def test_hr_in_memory_is_cropped_and_gray_replicated():
    hr = photo("coffee", 41, 51)
    lr = imresize(hr[:40, :50], scale=1 / 2)
    assert evaluate(Bicubic(2), [(lr, hr)]) == evaluate(Bicubic(2), [(lr, hr[:40, :50])])
    gray = evaluate(Bicubic(2), [(lr[..., 0], hr[..., 0])])
    assert (
        gray.images[0].scores
        == evaluate(Bicubic(2), [tuple(np.repeat(x[..., :1], 3, 2) for x in (lr, hr))]).images[0].scores
    )


def test_images_that_do_not_fit_and_a_network_without_a_scale_are_named(tmp_path):
    hr = photo("coffee", 40, 50)
    for lr, match in (
        (hr[:20, :20], "image 1: LR is 20x20 and HR 50x40; expected 2 times it"),
        (hr[:20, :25].astype(float), r"expected an image of uint8 .* got float64"),
        (hr[:0], "expected"),
    ):
        with pytest.raises(BadInputError, match=match):
            evaluate(Bicubic(2), [(hr[::2, ::2], hr), (lr, hr)])
    with pytest.raises(BadInputError, match="has no attribute 'scale'"):
        evaluate(lambda x: x, small_set(tmp_path, 2) / "benchmark/Set5")
    with pytest.raises(MissingInputError, match="nowhere"):
        evaluate(Bicubic(2), tmp_path / "nowhere")


def test_one_image_of_a_set_is_a_set_of_its_own(tmp_path):
    small_set(tmp_path, 2)

    def load(*names):
        return load_test_sets(make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": list(names)}))

    one, whole = load("set5/chelsea", "Set5")
    assert (one.name, len(one), len(whole)) == ("Set5/chelsea", 1, 3)
    assert [each.name for each in load("Set5/chelsea", "Set5/coffee")] == ["Set5/chelsea", "Set5/coffee"]
    scores = evaluate(Bicubic(2), [one, whole])
    assert scores.mean("Set5/chelsea") == next(i.scores["standard"] for i in scores.of("Set5") if i.name == "chelsea")
    with pytest.raises(MissingInputError, match="Set5 has no image 'bird'; it has astronaut, chelsea, coffee"):
        load("Set5/bird")
    with pytest.raises(MissingInputError, match=r"ssiu download .*add 'eval_sets=\[Set5/coffee\]'"):
        load("Set14/baboon", "Set5/coffee")
    for wrong in (["Set5/"], ["Set5/../a"], ["../Set5"], ["Set5/coffee", "set5/COFFEE"]):
        with pytest.raises(ConfigError, match="eval_sets"):
            load(*wrong)
    with pytest.raises(ConfigError, match="never select on a test set"):
        make_config({"eval_sets": ["Set5/bird"], "validation_set": "Set5"})


def test_the_example_of_evaluate_is_true():
    found = doctest.testmod(our_evaluate)
    assert found.attempted >= 4 and found.failed == 0


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/protocol.md").read_text(), re.DOTALL)[1]
    small_set(tmp_path / "data", 2)
    (tmp_path / "pretrain_model").mkdir()
    save_weights(tmp_path / "pretrain_model/SSIU_x2.safetensors", tiny(2))
    hr = photo("coffee", 40, 50)
    Image.fromarray(hr).save(tmp_path / "hr.png")
    Image.fromarray(imresize(hr, scale=1 / 2)).save(tmp_path / "lr.png")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    _, alone, listed = capsys.readouterr().out.splitlines()
    assert f"psnr={alone.split()[0]}"[:12] in listed

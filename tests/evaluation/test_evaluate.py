"""Evaluation over test sets: the same numbers as scoring by hand, however the work is split."""

import csv
import io
import json
import math
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from small_sets import photo, small_set, write_set
from torch.nn import functional as F

import ssiu
from ssiu.config.load import make_config
from ssiu.data.test_sets import load_test_sets
from ssiu.errors import BadInputError, ConfigError, NonFiniteError
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import PROTOCOLS, Score, score
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.images.bicubic import imresize
from ssiu.images.io import read_rgb
from ssiu.inference import tiles
from ssiu.inference.networks import Bicubic
from ssiu.inference.prepare import PreparedNetwork
from ssiu.models import SSIU
from ssiu.report.results import summary_json
from ssiu.report.tables import score_table


def _sets(root, scale=2, names=("Set5",)):
    return load_test_sets(
        make_config({"data_path": str(root), "scale": scale, "patch_size": 48, "eval_sets": list(names)})
    )


def _network(scale=2):
    torch.manual_seed(0)
    return SSIU(scale, n_feats=8, num_heads=2, n_blocks=3).eval()


def test_scores_are_those_of_each_image_scored_by_hand(tmp_path):
    sets = _sets(small_set(tmp_path, 3), 3)
    network = _network(3)
    found = evaluate(network, sets, save_to=tmp_path / "images")
    assert [image.name for image in found.images] == ["astronaut", "chelsea", "coffee"]
    for image, (_, lr, hr) in zip(found.images, (sets[0][i] for i in range(3)), strict=True):
        with torch.no_grad():
            sr = network(torch.from_numpy(lr).permute(2, 0, 1)[None] / 255)[0]
        for protocol in PROTOCOLS:
            assert image.scores[protocol] == pytest.approx(score(sr, hr, 3, protocol), abs=1e-4)
        saved = read_rgb(tmp_path / "images" / "Set5" / f"{image.name}_x3.png")
        assert saved.shape == hr.shape == (image.height, image.width, 3)
        assert score(saved, hr, 3, "standard") == image.scores["standard"]


class _Meeting:
    """A function of two images at once that goes on when both are there, and notes who computed with how much."""

    def __init__(self):
        self.both = threading.Barrier(2, timeout=30)
        self.threads = set()

    def __call__(self, lr):
        self.threads.add((threading.get_ident(), torch.get_num_threads()))
        self.both.wait()
        return F.interpolate(lr, scale_factor=2)


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_a_reentrant_network_upscales_images_at_once_with_the_threads_shared_out(tmp_path, four_threads):
    sets = _sets(write_set(tmp_path, "Set5", 2, {name: photo(name, 64, 48) for name in ("astronaut", "coffee")}))
    network = _Meeting()
    found = evaluate(PreparedNetwork(network, reentrant=True), sets, tile="auto", protocols=("standard",))
    assert [image.name for image in found.images] == ["astronaut", "coffee"]
    assert {count for _, count in network.threads} == {2} and len(network.threads) == 2
    later = ThreadPoolExecutor(1).submit(torch.get_num_threads).result()
    assert torch.get_num_threads() == later == 4


def test_an_error_or_ctrl_c_does_not_wait_for_the_networks_of_other_images(tmp_path, four_threads):
    both, ended = threading.Barrier(2, timeout=30), []

    def network(lr):
        if lr.shape[3] == 24:
            both.wait()
            raise KeyboardInterrupt
        try:
            both.wait()
            while True:  # as a pass of many operators
                lr = lr * 1
        finally:
            ended.append(True)

    images = {"first": photo("astronaut", 64, 48), "second": photo("coffee", 48, 64)}
    with pytest.raises(KeyboardInterrupt):
        evaluate(PreparedNetwork(network, reentrant=True), _sets(write_set(tmp_path, "Set5", 2, images)))
    assert ended == [True] and torch.get_num_threads() == 4


@pytest.mark.parametrize(("reentrant", "free"), [(False, 10**12), (True, 10**8)])
def test_a_network_that_may_not_or_has_no_memory_upscales_one_image_at_a_time(
    reentrant, free, tmp_path, four_threads, monkeypatch
):
    monkeypatch.setattr(tiles, "free_memory", lambda device: free)
    seen = []

    def network(lr):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return F.interpolate(lr, scale_factor=2)

    evaluate(PreparedNetwork(network, reentrant=reentrant), _sets(small_set(tmp_path, 2)), protocols=("standard",))
    assert set(seen) == {(threading.get_ident(), 4)} and len(seen) == 3


def test_images_at_once_score_as_one_after_the_other(tmp_path, four_threads):
    sets = _sets(small_set(tmp_path, 2))
    at_once = evaluate(_network(), sets)
    torch.set_num_threads(1)
    for image, other in zip(at_once.images, evaluate(_network(), sets).images, strict=True):
        assert image.name == other.name
        for protocol in PROTOCOLS:
            assert image.scores[protocol] == pytest.approx(other.scores[protocol], abs=1e-5)


def test_bicubic_is_matlabs_and_scores_above_nearest_neighbour(tmp_path):
    sets = _sets(small_set(tmp_path, 2))
    found = evaluate(Bicubic(2), sets, protocols=("standard",))
    for index, image in enumerate(found.images):
        _, lr, hr = sets[0][index]
        assert image.scores == {"standard": score(imresize(lr, scale=2), hr, 2, "standard")}
    nearest = evaluate(lambda lr: F.interpolate(lr, scale_factor=2), sets)
    assert nearest.mean("Set5").psnr < found.mean("Set5").psnr


def test_means_are_over_the_images_of_each_set(tmp_path):
    small_set(tmp_path, 2)
    write_set(tmp_path, "mine", 2, {"cat": photo("chelsea", 40, 40)})
    found = evaluate(Bicubic(2), _sets(tmp_path, names=("mine", "Set5")))
    assert found.sets == ["mine", "Set5"]
    rows = [image.scores["official"] for image in found.of("Set5")]
    assert found.mean("Set5", "official").psnr == pytest.approx(np.mean([row.psnr for row in rows]))
    assert found.mean("Set5", "official").ssim == pytest.approx(np.mean([row.ssim for row in rows]))
    assert found.mean("mine") == found.images[0].scores["standard"]
    assert found.means["standard"]["mine"] == found.mean("mine")


@pytest.mark.parametrize("options", [{"tile": 16}, {"self_ensemble": True}, {"precision": "bf16"}])
def test_options_reach_the_network(tmp_path, options):
    sets = _sets(write_set(tmp_path, "Set5", 2, {"a": photo("coffee", 200, 64)}))
    network = _network()
    plain, other = (evaluate(network, sets, **o).mean("Set5", "official") for o in ({}, options))
    assert other != plain
    assert other.psnr == pytest.approx(plain.psnr, abs=5)


def test_a_plain_function_runs_in_the_asked_precision(tmp_path):
    seen = []

    def network(lr):
        seen.append(F.conv2d(lr, torch.ones(3, 3, 1, 1)).dtype)
        return F.interpolate(lr, scale_factor=2)

    evaluate(network, _sets(small_set(tmp_path, 2)), precision="bf16", protocols=("standard",))
    assert seen == [torch.bfloat16] * 3
    with pytest.raises(ConfigError, match="precision: expected one of fp32, tf32, bf16, fp16, got bfloat16"):
        evaluate(network, _sets(small_set(tmp_path, 2)), precision="bfloat16")


def _result(name, psnr, ssim=0.5):
    return ImageResult("Set5", name, 30, 20, {"standard": Score(psnr, ssim)})


def test_an_image_that_equals_its_original_is_left_out_of_the_mean_and_named():
    found = Evaluation([_result("a", math.inf, 1.0), _result("b", 30.0), _result("c", 32.0)], ("standard",))
    assert found.mean("Set5") == (31.0, pytest.approx(2 / 3))
    summary = found.summary(model="SSIU", scale=2)["protocols"]["standard"]["Set5"]
    assert summary == {"psnr": 31.0, "ssim": pytest.approx(2 / 3), "images": 3, "exact": ["a"]}
    (remark,) = score_table("t", found).notes
    assert "Set5 (standard): 1 of 3 images equal their originals (a)" in remark
    assert not score_table("t", Evaluation([_result("b", 30.0)], ("standard",))).notes


def test_summary_has_the_documented_keys_and_null_where_all_images_are_exact():
    found = Evaluation([_result("a", math.inf, 1.0), _result("b", math.inf, 1.0)], ("standard",))
    summary = found.summary(model="SSIU", scale=2, checkpoint="w.safetensors", weights_sha256="ab", precision="bf16")
    assert json.loads(summary_json(summary)) == {
        "model": "SSIU",
        "scale": 2,
        "checkpoint": "w.safetensors",
        "weights_sha256": "ab",
        "precision": "bf16",
        "self_ensemble": None,
        "version": ssiu.__version__,
        "date": found.date.isoformat(),
        "protocols": {"standard": {"Set5": {"psnr": None, "ssim": 1.0, "images": 2, "exact": ["a", "b"]}}},
    }


def test_per_image_csv_keeps_every_digit():
    found = Evaluation([_result("a, b", 31.123456789012345), _result("c", math.inf)], ("standard",))
    rows = list(csv.DictReader(io.StringIO(found.per_image_csv())))
    assert [row["name"] for row in rows] == ["a, b", "c"]
    assert float(rows[0]["standard_psnr"]) == 31.123456789012345
    assert float(rows[1]["standard_psnr"]) == math.inf
    assert (rows[0]["width"], rows[0]["height"]) == ("30", "20")


def test_a_image_too_small_to_score_is_named_before_any_work(tmp_path):
    write_set(tmp_path, "Set5", 2, {"big": photo("coffee", 40, 40), "tiny": photo("coffee", 14, 40)})
    with pytest.raises(BadInputError, match="Set5/tiny: a 40x14 image is too small"):
        evaluate(lambda lr: pytest.fail("the network ran"), _sets(tmp_path))


def test_a_damaged_image_is_named(tmp_path):
    small_set(tmp_path, 2)
    path = tmp_path / "benchmark/Set5/LR_bicubic/X2/coffeex2.png"
    sets = _sets(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadInputError, match=r"coffeex2\.png"):
        evaluate(Bicubic(2), sets)


def test_nan_is_an_error_not_a_score(tmp_path):
    with pytest.raises(NonFiniteError, match="Set5/astronaut"):
        evaluate(lambda lr: F.interpolate(lr, scale_factor=2) * math.nan, _sets(small_set(tmp_path, 2)))


def test_ranks_share_the_images_and_all_get_the_whole_result(tmp_path):
    small_set(tmp_path, 2)
    script = tmp_path / "ranks.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        import torch.distributed as dist
        from ssiu.config.load import make_config
        from ssiu.data.test_sets import load_test_sets
        from ssiu.evaluation.evaluate import evaluate
        from ssiu.inference.networks import Bicubic

        rank = int(sys.argv[1])
        dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
        sets = load_test_sets(make_config({{"data_path": "{tmp_path}", "scale": 2, "eval_sets": ["Set5"]}}))
        calls = []
        bicubic = Bicubic(2)
        found = evaluate(lambda lr: calls.append(0) or bicubic(lr), sets)
        print(len(calls), found.per_image_csv(), sep="\\n", end="")
        dist.destroy_process_group()
    """)
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, str(script), str(rank)], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    alone = evaluate(Bicubic(2), _sets(tmp_path)).per_image_csv()
    assert outputs == [f"2\n{alone}", f"1\n{alone}"]

"""What a GPU computes, by the checks of `ssiu benchmark gpu`: ``pytest -m gpu``."""

from pathlib import Path

import pytest
import torch

from ssiu.bench import gpu_checks
from ssiu.bench.gpu_lab import Lab
from ssiu.device import select_device, set_arithmetic

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch) -> Lab:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    set_arithmetic("fp32")
    yield Lab(select_device("cuda"), toy=False, folder=tmp_path)
    set_arithmetic("fp32")


def test_outputs_are_those_of_float64_and_graphs_read_what_they_are_given(lab):
    limits = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01, "eager": 1e-4}
    for name, error in gpu_checks.output_parity(lab).items():
        assert error <= limits[name.partition("_")[0]], name


def test_gradients_are_those_of_float64_in_every_layout(lab):
    for name, error in gpu_checks.gradient_parity(lab).items():
        assert error <= 1e-4, name


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_reduced_precision_costs_a_hundredth_of_a_decibel(lab, scale):
    found = gpu_checks.psnr(lab, scale)
    for precision in ("tf32", "bf16", "fp16"):
        assert found[precision] == pytest.approx(found["fp32"], abs=0.01), precision
    assert found["score_psnr"] <= 1e-6 and found["score_ssim"] <= 1e-6


def test_a_stopped_run_ends_in_the_same_bits(lab):
    found = gpu_checks.resume(lab)
    assert found["stopped_at"] == 20 and found["deterministic_equal"]


def test_files_upscaled_together_are_those_of_one_by_one(lab):
    assert gpu_checks.folder(lab)["levels"] <= 1


def test_a_compiled_network_trains_under_nccl(lab):
    assert gpu_checks.ddp(lab)["ms"] > 0

"""The two protocols against recorded values, an independent implementation and their own symmetries."""

import doctest
import json
import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from skimage import data, metrics

import ssiu
from ssiu.errors import BadInputError
from ssiu.evaluation import metrics as our_metrics
from ssiu.evaluation.metrics import PROTOCOLS, Score, _standard_on_device, luma, mean_score, rounded, score, to_uint8
from ssiu.images.bicubic import imresize


def _noisy(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def _photo(height: int = 64, width: int = 80) -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[40 : 40 + height, 180 : 180 + width])


images = hnp.arrays(np.uint8, st.tuples(st.integers(17, 24), st.integers(17, 24), st.just(3)))


def _imdn(shared):
    for path in sorted((shared / "reference/imdn_set5_x4").glob("*.png")):
        sr = np.asarray(Image.open(path))
        hr = np.asarray(Image.open(shared / "data/benchmark/Set5/HR" / path.name).convert("RGB"))
        yield path.stem, sr, hr[: sr.shape[0], : sr.shape[1]]


def test_imdn_outputs_score_as_recorded_from_the_original_code(shared):
    recorded = json.loads((shared / "reference/imdn_set5_x4/metrics.json").read_text())
    tolerance = {"standard": (1e-4, 1e-5), "official": (1e-4, 5e-5)}
    for protocol in PROTOCOLS:
        scores = {name: score(sr, hr, 4, protocol) for name, sr, hr in _imdn(shared)}
        assert len(scores) == 5
        for name, found in scores.items():
            expected = recorded["images"][name][protocol]
            assert found.psnr == pytest.approx(expected["psnr"], abs=tolerance[protocol][0])
            assert found.ssim == pytest.approx(expected["ssim"], abs=tolerance[protocol][1])
        mean = mean_score(scores.values())
        assert mean.psnr == pytest.approx(recorded["mean"][protocol]["psnr"], abs=tolerance[protocol][0])
        if protocol == "standard":
            assert rounded(mean, protocol) == (32.21, 0.8948), "the published IMDN row"


@pytest.mark.parametrize("scale, psnr, ssim", [(2, 33.673, 0.9303), (3, 30.403, 0.8689), (4, 28.429, 0.8111)])
def test_bicubic_on_set5_scores_as_published(shared, scale, psnr, ssim):
    folder = shared / "data/benchmark/Set5"
    scores = []
    for path in sorted((folder / f"LR_bicubic/X{scale}").iterdir()):
        lr = np.asarray(Image.open(path).convert("RGB"))
        sr = imresize(lr, scale)
        hr = np.asarray(Image.open(folder / "HR" / path.name.replace(f"x{scale}", "")).convert("RGB"))
        scores.append(score(sr, hr[: sr.shape[0], : sr.shape[1]], scale, "standard"))
    mean = mean_score(scores)
    assert mean.psnr == pytest.approx(psnr, abs=1e-3)
    assert mean.ssim == pytest.approx(ssim, abs=1e-4)


@pytest.mark.parametrize("sigma", [0.6, 8, 40])
def test_standard_agrees_with_scikit_image(sigma):
    hr = _photo()
    sr = _noisy(hr, sigma)
    found = score(sr, hr, 3, "standard")
    a, b = (luma(image)[3:-3, 3:-3] for image in (sr, hr))
    assert found.psnr == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)
    expected = metrics.structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )  # it shaves its window's radius of 5 before the mean: the "valid" positions
    assert found.ssim == pytest.approx(expected, abs=1e-9)


def test_luma_of_black_and_white_spans_16_to_235():
    extremes = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert luma(extremes) == pytest.approx(np.array([[16.0, 235.0]]), abs=1e-12)


def test_official_inflates_ssim_and_leaves_psnr():
    hr = _photo(128, 160)
    sr = _noisy(cv2.GaussianBlur(hr, (0, 0), 3), 2)
    standard, official = (score(sr, hr, 4, protocol) for protocol in PROTOCOLS)
    assert official.psnr == pytest.approx(standard.psnr, abs=1e-3)
    # in exact arithmetic the shifted luma only pushes SSIM's luminance term to 1; float32 cancellation then adds to it
    a, b = (luma(image)[4:-4, 4:-4] + 4064 for image in (sr, hr))
    exact = metrics.structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert exact > standard.ssim + 1e-3
    assert official.ssim == pytest.approx(exact, abs=5e-3)


def test_standard_scores_the_image_that_would_be_saved_and_official_the_raw_output():
    hr = _photo()
    raw = torch.from_numpy(hr).permute(2, 0, 1) / 255 + 0.3 / 255  # rounds back to HR
    assert score(raw, hr, 4, "standard").psnr == math.inf
    offset = 0.3 * 219 / 255  # of luma
    assert score(raw, hr, 4, "official").psnr == pytest.approx(20 * math.log10(255 / offset), abs=0.05)
    beyond = torch.full((3, 32, 32), 1.5)
    white = np.full((32, 32, 3), 255, np.uint8)
    assert score(beyond, white, 2, "standard").psnr == math.inf
    assert score(beyond, white, 2, "official").psnr == pytest.approx(20 * math.log10(255 / (219 * 0.5)), abs=1e-3)


def test_to_uint8_clamps_and_rounds():
    values = torch.tensor([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 7.0]).view(1, 1, 6).expand(3, 1, 6)
    assert to_uint8(values)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_float_scores_raw_output_by_the_formulas_of_basicsr():
    """Those of `calculate_psnr_pt` and `calculate_ssim_pt`."""
    hr = _photo()
    raw = torch.from_numpy(hr).permute(2, 0, 1) / 255 + 0.02 * torch.randn(3, *hr.shape[:2])
    raw[:, 10:14, 10:14] = 1.5  # nothing is clamped
    weights = np.array([65.481, 128.553, 24.966])
    a, b = ((image @ weights + 16)[3:-3, 3:-3] for image in (raw.permute(1, 2, 0).double().numpy(), hr / 255))
    found = score(raw, hr, 3, "float")
    assert found.psnr == pytest.approx(-10 * math.log10(np.mean((a - b) ** 2) / 255**2 + 1e-8), abs=1e-5)
    expected = metrics.structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert found.ssim == pytest.approx(expected, abs=1e-6)
    assert score(hr, hr, 3, "float") == (pytest.approx(80), pytest.approx(1))
    noisy = _noisy(hr, 4)
    assert score(noisy, hr, 3, "float") == pytest.approx(score(noisy, hr, 3, "standard"), abs=1e-2), "8-bit images"


def test_printed_means_round_up_only_under_official():
    mean = Score(32.2061, 0.89441)
    assert rounded(mean, "standard") == (32.21, 0.8944)
    assert rounded(mean, "official") == (32.21, 0.8945)
    assert rounded(Score(32.2001, 0.9), "official").psnr == 32.21
    assert rounded(Score(math.inf, 1.0), "standard") == (math.inf, 1.0)


@settings(deadline=None, max_examples=40)
@given(images)
def test_equal_images_score_infinity_and_one(image):
    for protocol in PROTOCOLS:
        found = score(image, image, 2, protocol)
        assert found.psnr == math.inf
        assert found.ssim == pytest.approx(1, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(images, st.integers(0, 2**31), st.integers(2, 3))
def test_scores_ignore_flips_order_and_the_shaved_border(image, seed, scale):
    other = _noisy(image, 20, seed)
    base = score(other, image, scale, "standard")
    assert -1 <= base.ssim <= 1
    assert score(image, other, scale, "standard") == pytest.approx(base, rel=1e-9)
    assert score(other[::-1, ::-1], image[::-1, ::-1], scale, "standard") == pytest.approx(base, rel=1e-9)
    assert score(other.swapaxes(0, 1), image.swapaxes(0, 1), scale, "standard") == pytest.approx(base, rel=1e-9)
    framed = np.full_like(other, 255)
    framed[scale:-scale, scale:-scale] = other[scale:-scale, scale:-scale]
    assert score(framed, image, scale, "standard") == base


def test_more_noise_scores_lower():
    hr = _photo()
    for protocol in PROTOCOLS:
        scores = [score(_noisy(hr, sigma), hr, 4, protocol) for sigma in (2, 8, 32)]
        assert scores == sorted(scores, reverse=True)
        assert [s.ssim for s in scores] == sorted((s.ssim for s in scores), reverse=True)


def test_smallest_image_is_border_and_window():
    image = np.zeros((19, 40, 3), np.uint8)
    assert score(image, image, 4, "standard").ssim == pytest.approx(1)
    with pytest.raises(BadInputError, match="at least 19x19"):
        score(image[:18], image[:18], 4, "standard")


def test_different_sizes_are_refused_with_both_sizes():
    with pytest.raises(BadInputError, match=r"SR is 40x32 .* HR is 40x30"):
        score(np.zeros((32, 40, 3), np.uint8), np.zeros((30, 40, 3), np.uint8), 2, "official")


class _OnGpu(torch.Tensor):
    is_cuda = True


def test_a_gpu_scores_one_image_at_a_time(monkeypatch):
    """Each takes a dozen maps of float64 there, and as many images as the machine has cores are ready to be scored."""
    inside, most = [], []

    def watched(*arguments):
        inside.append(None)
        most.append(len(inside))
        result = _standard_on_device(*arguments)
        inside.pop()
        return result

    monkeypatch.setattr("ssiu.evaluation.metrics._standard_on_device", watched)
    hr = data.astronaut()
    sr = torch.from_numpy(hr).permute(2, 0, 1).div(255).as_subclass(_OnGpu)
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda _: score(sr, hr, 2, "standard"), range(8)))
    assert len(most) == 8 and max(most) == 1
    assert {each.psnr for each in scores} == {math.inf}


def test_an_unknown_protocol_is_an_error():
    with pytest.raises(ValueError, match="standard, official"):
        score(_photo(), _photo(), 2, "matlab")


@pytest.mark.parametrize("sigma", [0.6, 8, 40])
def test_the_devices_standard_is_the_cpus(sigma):
    hr = _photo(128, 161)
    sr = torch.from_numpy(_noisy(hr, sigma)).permute(2, 0, 1) / 255
    here, there = score(sr, hr, 2, "standard"), _standard_on_device(sr, hr, 2)
    assert there == pytest.approx(here, abs=1e-9)


def test_the_examples_of_psnr_and_ssim_are_true():
    found = doctest.testmod(our_metrics)
    assert found.attempted >= 4 and found.failed == 0


def test_psnr_and_ssim_take_an_image_as_users_have_it():
    hr, sr = _photo(), _noisy(_photo(), 8)
    expected = score(sr, hr, 4, "standard")
    raw = torch.from_numpy(sr).permute(2, 0, 1) / 255
    for image in (sr, Image.fromarray(sr), raw):
        assert (ssiu.psnr(image, Image.fromarray(hr), 4), ssiu.ssim(image, hr, 4)) == expected
    assert ssiu.ssim(raw, hr, 4, "official") == score(raw, hr, 4, "official").ssim
    gray = np.repeat(hr[..., :1], 3, axis=2)
    assert ssiu.psnr(sr[..., 0], hr[..., 0], 4) == ssiu.psnr(np.repeat(sr[..., :1], 3, axis=2), gray, 4)


@pytest.mark.parametrize(
    ("sr", "hr", "said"),
    [
        (_photo() / 255, _photo(), r"uint8 \(H, W, 3\) or \(H, W\), got float64 \(64, 80, 3\)"),
        (np.dstack([_photo(), _photo()[..., :1]]), _photo(), r"got uint8 \(64, 80, 4\)"),
        (_photo(), torch.zeros(3, 64, 80), r"got float32 \(3, 64, 80\)"),
        (torch.zeros(1, 3, 64, 80), _photo(), r"float tensor \(3, H, W\) .*got torch.float32 \(1, 3, 64, 80\)"),
        (torch.zeros(3, 64, 80, dtype=torch.uint8), _photo(), "got torch.uint8"),
        (_photo(60), _photo(), "SR is 80x60 but HR is 80x64"),
        ([], _photo(), "got float64"),
        (_photo(20), _photo(20), "too small to score"),
    ],
)
def test_what_psnr_cannot_score_is_refused_in_a_line(sr, hr, said):
    with pytest.raises(BadInputError, match=said):
        ssiu.psnr(sr, hr, scale=6)

"""Printed cells are explained: of references that other code computes, and not of numbers that are made up.

The references are written as other code bases state them, with scikit-image, OpenCV, SciPy, pytorch-msssim and plain
formulas, and share nothing with what is tried.
"""

import math
import statistics
from collections.abc import Callable
from random import Random

import cv2
import numpy as np
import pytest
import torch
from pytorch_msssim import ssim as msssim
from scipy.ndimage import convolve1d
from skimage import data
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from ssiu.errors import ConfigError
from ssiu.evaluation.explain import Claim, Explanation, Protocol, explain, means, protocols, read_claim
from ssiu.evaluation.measures import ScoredPair, measure
from ssiu.evaluation.metrics import to_uint8
from ssiu.images.bicubic import make_lr
from ssiu.weights.load import load_model

SCALE = 4
Image = np.ndarray
Numbers = tuple[float, float]  # PSNR, SSIM
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


def y_channel(image: Image) -> Image:
    """Of RGB from 0 to 255, as BasicSR and SwinIR have it."""
    return np.dot(image.astype(np.float64) / 255, [65.481, 128.553, 24.966]) + 16.0


def shave(image: Image, border: int = SCALE) -> Image:
    return image[border:-border, border:-border] if border else image


def db(a: Image, b: Image) -> float:
    return 20 * math.log10(255 / math.sqrt(np.mean((a - b) ** 2)))


def floats(raw: Tensor) -> Image:
    return raw.permute(1, 2, 0).double().numpy() * 255


def gauss(a: Image, b: Image, **options: object) -> float:
    return structural_similarity(a, b, **{**GAUSSIAN, **options})


def padded(a: Image, b: Image, mode: str) -> float:
    """SSIM over the whole image, its 11 x 11 window filled up at the edges."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    line /= line.sum()

    def mean(x: Image) -> Image:
        return convolve1d(convolve1d(x, line, 0, mode=mode), line, 1, mode=mode)

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    top = (2 * mu_a * mu_b + 6.5025) * (2 * cov + 58.5225)
    return float((top / ((mu_a**2 + mu_b**2 + 6.5025) * (var_a + var_b + 58.5225))).mean())


def on_y(sr: Image, hr: Image, border: int = SCALE, rounded: bool = False) -> Numbers:
    a, b = (shave(y_channel(image), border) for image in (sr, hr))
    if rounded:
        a, b = np.round(a), np.round(b)
    return db(a, b), gauss(a, b)


def on_rgb(sr: Image, hr: Image, border: int) -> Numbers:
    a, b = (shave(image, border).astype(float) for image in (sr, hr))
    return db(a, b), statistics.fmean(gauss(a[..., c], b[..., c]) for c in range(3))


def with_offset(sr: Tensor, hr: Image) -> Numbers:
    """SSIU's: divided by 255 twice, the 16 multiplied by 255, in float32."""
    hr = torch.from_numpy(hr).permute(2, 0, 1).float() / 255
    a, b = ((65.481 * r + 128.553 * g + 24.966 * b + 16)[4:-4, 4:-4] * 255 for r, g, b in (sr / 255, hr / 255))
    return 10 * math.log10(255**2 / torch.mean((a - b) ** 2).item()), msssim(a[None, None], b[None, None]).item()


def full(image: Image) -> Image:
    return shave(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).astype(float)


def gray_apart(sr: Image, hr: Image) -> Numbers:
    """A MATLAB script that converts images of three channels only, in float."""
    if np.ptp(hr.astype(int), axis=2).max() > 0:
        return on_y(sr, hr)
    a, b = (shave(image.astype(float) @ [0.299, 0.587, 0.114]) for image in (sr, hr))
    return db(a, b), gauss(a, b)


def mod12(image: Image) -> Image:
    return image[: image.shape[0] // 12 * 12, : image.shape[1] // 12 * 12]


def y_and(similarity: Callable[[Image, Image], float]) -> Callable[[ScoredPair], Numbers]:
    return lambda p: (on_y(p.sr, p.hr)[0], similarity(shave(y_channel(p.sr)), shave(y_channel(p.hr))))


REFERENCES: dict[str, tuple[Callable[[ScoredPair], Numbers], Protocol]] = {
    "BasicSR": (lambda p: on_y(p.sr, p.hr), Protocol()),
    "BasicSR's *_pt": (lambda p: on_y(floats(p.raw), p.hr), Protocol("raw")),
    "clamped": (lambda p: on_y(floats(p.raw.clamp(0, 1)), p.hr), Protocol("clamped")),
    "RCAN's MATLAB": (lambda p: on_y(p.sr, p.hr, rounded=True), Protocol(color="luma rounded")),
    "no border": (lambda p: on_y(p.sr, p.hr, 0), Protocol(border="none")),
    "rounded, no border": (lambda p: on_y(p.sr, p.hr, 0, True), Protocol(border="none", color="luma rounded")),
    "border of 10": (lambda p: on_y(p.sr, p.hr, 10), Protocol(border="scale + 6")),
    "BasicSR on RGB": (lambda p: on_rgb(p.sr, p.hr, 4), Protocol(color="RGB")),
    "EDSR on DIV2K": (lambda p: on_rgb(p.sr, p.hr, 10), Protocol(border="scale + 6", color="RGB")),
    "RGB, no border": (lambda p: on_rgb(p.sr, p.hr, 0), Protocol(border="none", color="RGB")),
    "skimage on RGB": (
        lambda p: (peak_signal_noise_ratio(p.hr, p.sr), structural_similarity(p.hr, p.sr, channel_axis=2)),
        Protocol(border="none", color="RGB", window="7x7"),
    ),
    "SSIU on raw SR": (lambda p: with_offset(p.raw, p.hr), Protocol("raw", color="luma + 4080")),
    "SSIU on 8 bit": (
        lambda p: with_offset(torch.from_numpy(p.sr).permute(2, 0, 1).float() / 255, p.hr),
        Protocol(color="luma + 4080"),
    ),
    "OpenCV's gray": (
        lambda p: (db(full(p.sr), full(p.hr)), gauss(full(p.sr), full(p.hr))),
        Protocol(color="full luma rounded"),
    ),
    "rgb2gray": (
        lambda p: on_gray(shave(rgb2gray(p.sr)) * 255, shave(rgb2gray(p.hr)) * 255),
        Protocol(color="BT.709"),
    ),
    "gray apart": (lambda p: gray_apart(p.sr, p.hr), Protocol(gray="as they are")),
    "mod 12": (lambda p: on_y(mod12(p.sr), mod12(p.hr)), Protocol(crop="mod 12")),
    "mod 12, rounded": (
        lambda p: on_y(mod12(p.sr), mod12(p.hr), rounded=True),
        Protocol(crop="mod 12", color="luma rounded"),
    ),
    "7x7": (y_and(lambda a, b: structural_similarity(a, b, data_range=255)), Protocol(window="7x7")),
    "unbiased": (y_and(lambda a, b: gauss(a, b, use_sample_covariance=True)), Protocol(window="unbiased")),
    "pytorch-ssim": (y_and(lambda a, b: padded(a, b, "constant")), Protocol(window="zeros around")),
    "MATLAB's ssim": (y_and(lambda a, b: padded(a, b, "nearest")), Protocol(window="edges repeated")),
    "kornia": (y_and(lambda a, b: padded(a, b, "mirror")), Protocol(window="mirrored")),
}


def on_gray(a: Image, b: Image) -> Numbers:
    return db(a, b), gauss(a, b)


Explain = Callable[[Claim], list[Explanation]]


@pytest.fixture(scope="module")
def pairs() -> list[ScoredPair]:
    """Five pieces of photographs, one of them gray, upscaled by the shipped network."""
    pieces = {
        "astronaut": (20, 170),
        "coffee": (100, 200),
        "chelsea": (60, 110),
        "rocket": (200, 250),
        "camera": (60, 200),
    }
    network = load_model(SCALE)
    found = []
    for number, (name, (top, left)) in enumerate(pieces.items()):
        image = getattr(data, name)()
        image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        hr = np.ascontiguousarray(image[top : top + 104 + 8 * number, left : left + 128 - 8 * number])
        lr = torch.from_numpy(make_lr(hr, SCALE)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            raw = network(lr)[0]
        found.append(ScoredPair(to_uint8(raw), hr, raw))
    return found


@pytest.fixture(scope="module")
def tried() -> dict[Protocol, tuple[int, str]]:
    return protocols(SCALE, raw=True)


@pytest.fixture(scope="module")
def explained(pairs: list[ScoredPair], tried: dict[Protocol, tuple[int, str]]) -> Explain:
    measures = list(dict.fromkeys(protocol.measure for protocol in tried))
    scores = means([measure(pair, SCALE, measures) for pair in pairs], tried)
    return lambda claim: explain(scores, tried, claim)


@pytest.fixture(scope="module")
def cells(pairs: list[ScoredPair]) -> dict[str, tuple[Claim, Protocol]]:
    """What each reference prints, its means rounded, rounded up as SSIU's code does, or cut off."""
    found = {}
    for name, (reference, protocol) in REFERENCES.items():
        psnrs, ssims = zip(*map(reference, pairs), strict=True)
        psnr, ssim = statistics.fmean(psnrs), statistics.fmean(ssims)
        if name.startswith("SSIU"):
            text, protocol = (
                f"{round(psnr + 5e-3, 2):.2f}/{round(ssim + 5e-5, 4):.4f}",
                protocol._replace(rounding="up"),
            )
        else:
            text = f"{psnr:.2f}/{ssim:.4f}"
        found[name] = read_claim(text), protocol
        if name in ("BasicSR", "RCAN's MATLAB", "BasicSR on RGB"):
            cut = read_claim(f"{math.floor(psnr * 100) / 100:.2f}/{math.floor(ssim * 1e4) / 1e4:.4f}")
            found[f"{name}, cut off"] = cut, protocol._replace(rounding="down")
            mse = statistics.fmean(10 ** (-value / 10) for value in psnrs)
            found[f"{name}, mean MSE"] = (
                read_claim(f"{-10 * math.log10(mse):.2f}/{ssim:.4f}"),
                protocol._replace(average="MSE"),
            )
    return found


def test_the_protocol_of_every_reference_is_named_and_few_others(cells, explained: Explain, tried) -> None:
    counts = []
    for name, (claim, protocol) in cells.items():
        found = explained(claim)
        assert any(tried[protocol][1] in each.protocols for each in found), (name, claim, found)
        assert [each.changes for each in found] == sorted(each.changes for each in found)  # nearest first
        assert all(0 < each.chance <= 0.04 for each in found)
        counts.append(len(found))
    print(f"{counts} classes named")
    assert statistics.median(counts) <= 3 and max(counts) <= 6, counts


def test_of_500_cells_that_are_moved_few_are_explained(cells, explained: Explain) -> None:
    random = Random(0)
    named = 0
    for number in range(500):
        claim, _ = list(cells.values())[number % len(cells)]
        by = random.uniform(0.03, 0.3) * random.choice((-1, 1))
        follows = number % 2  # SSIM goes with PSNR, as it does between two networks, or anywhere
        ssim = by * random.uniform(0.005, 0.02) if follows else random.uniform(0.0002, 0.004) * random.choice((-1, 1))
        named += bool(explained(Claim(claim.psnr + round(by * 100), claim.ssim + round(ssim * 1e4), claim.digits)))
    print(f"{named} of 500 named")
    assert named <= 0.05 * 500


def test_a_claim_is_read_with_its_digits_and_anything_else_refused() -> None:
    assert read_claim("32.58 / 0.8998") == Claim(3258, 8998, (2, 4))
    assert read_claim("32.5/.90") == Claim(325, 90, (1, 2))
    for text in ("32.58", "32.58/0.8998/1", "32.58/89.98", "a/b", "nan/0.9", "32.58/inf", "/", "3258/0.8998", "32/1"):
        with pytest.raises(ConfigError, match=r"expected PSNR/SSIM as they are printed, such as 32.58/0.8998"):
            read_claim(text)

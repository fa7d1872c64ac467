"""The squared error and SSIM of one image under many protocols: what they share is computed once."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ssiu.evaluation.metrics import WINDOW, gaussian_blur, luma, score, ssim_map

FULL = (0.299, 0.587, 0.114)
BT709 = (0.2125, 0.7154, 0.0721)
MEANS = 7  # side of scikit-image's default window
REDUCED = 256  # what Wang's code reduces the shorter side to
PADDING = {
    "zeros around": cv2.BORDER_CONSTANT,
    "edges repeated": cv2.BORDER_REPLICATE,
    "mirrored": cv2.BORDER_REFLECT_101,
}
UNBIASED = {"unbiased": WINDOW**2 / (WINDOW**2 - 1), "7x7": MEANS**2 / (MEANS**2 - 1)}


class Measure(NamedTuple):
    """How an image is measured: answers to the first questions of `ssiu.evaluation.explain.CHOICES`."""

    pixels: str
    crop: str
    border: str
    color: str
    gray: str
    window: str


class Measured(NamedTuple):
    """Mean squared error in 255ths and SSIM; NaN where nothing of the image is left."""

    error: float
    similarity: float


@dataclass(frozen=True)
class ScoredPair:
    """An SR image, uint8 (H, W, 3) and, where a network gave it, float (3, H, W), beside its original, uint8."""

    sr: np.ndarray
    hr: np.ndarray
    raw: Tensor | None = None


def measure(pair: ScoredPair, scale: int, measures: Iterable[Measure]) -> dict[Measure, Measured]:
    """The error and similarity of ``pair`` under each of ``measures``."""
    height, width = pair.hr.shape[:2]
    is_gray = bool((pair.hr == pair.hr[..., :1]).all())

    @cache
    def floats(pixels: str) -> tuple[np.ndarray, np.ndarray]:
        return _floats(pair, pixels), pair.hr.astype(np.float64)

    @cache
    def planes(pixels: str, color: str) -> tuple[np.ndarray, np.ndarray]:
        sr, hr = (_planes(image, color) for image in floats(pixels))
        return sr, hr  # (channels, H, W)

    @cache
    def errors(pixels: str, color: str) -> np.ndarray:
        sr, hr = planes(pixels, color)
        return np.square(sr - hr).mean(0)

    @cache
    def similarities(pixels: str, color: str, window: str) -> np.ndarray:
        return _similarity(*planes(pixels, color), window)

    @cache
    def measured(how: Measure) -> Measured:
        if how.gray == "as they are" and not is_gray:
            return measured(how._replace(gray="replicated"))
        border = {"scale": scale, "none": 0, "scale + 6": scale + 6, "4": 4}[how.border]
        multiple = {"whole": 1, "mod 12": 12, "even": 2}[how.crop]
        bottom, right = height - height % multiple - border, width - width % multiple - border
        if min(bottom, right) - border < WINDOW:
            return Measured(math.nan, math.nan)
        inside = np.s_[..., border:bottom, border:right]
        color = how.color
        if how.gray == "as they are":
            color = {"luma": "full luma", "luma rounded": "full luma rounded"}.get(color, color)
        error = errors(how.pixels, "luma" if color == "luma + 4080" else color)[inside].mean().item()
        if color == "luma + 4080":
            region = np.s_[: bottom + border, : right + border]
            sr = pair.sr[region] if how.pixels == "8 bit" else _tensor(pair, how.pixels)[:, *region]
            return Measured(error, score(sr, pair.hr[region], border, "official").ssim)
        if how.window in ("Gaussian", *UNBIASED):  # whole windows: a part of the map of the whole image
            reach = 2 * ((MEANS if how.window == "7x7" else WINDOW) // 2)
            similarity = similarities(how.pixels, color, how.window)[border : bottom - reach, border : right - reach]
        else:
            sr_part, hr_part = (image[inside] for image in planes(how.pixels, color))
            similarity = _similarity(sr_part, hr_part, how.window)
        return Measured(error, similarity.mean().item())

    return {each: measured(each) for each in measures}


def _tensor(pair: ScoredPair, pixels: str) -> Tensor:
    assert pair.raw is not None, "protocols of raw output are tried where there is some"
    return pair.raw.clamp(0, 1) if pixels == "clamped" else pair.raw


def _floats(pair: ScoredPair, pixels: str) -> np.ndarray:
    """SR, float64 (H, W, 3) in 255ths."""
    if pixels == "8 bit":
        return pair.sr.astype(np.float64)
    return _tensor(pair, pixels).detach().cpu().double().mul(255).permute(1, 2, 0).numpy()


def _planes(image: np.ndarray, color: str) -> np.ndarray:
    """(channels, H, W) of (H, W, 3) in 255ths."""
    if color == "RGB":
        return np.ascontiguousarray(image.transpose(2, 0, 1))
    kind = color.removesuffix(" rounded")
    plane = luma(image) if kind == "luma" else image @ np.array(FULL if kind == "full luma" else BT709)
    return (np.floor(plane + 0.5) if color.endswith(" rounded") else plane)[None]


def _similarity(sr: np.ndarray, hr: np.ndarray, window: str) -> np.ndarray:
    """SSIM's map (H, W), the mean over channels."""
    blur: Callable[[np.ndarray], np.ndarray] = gaussian_blur
    if window == "7x7":
        blur = _means
    elif window in PADDING:
        blur = lambda image: gaussian_blur(image, PADDING[window])  # noqa: E731
    elif window == "reduced":
        by = max(1, round(min(sr.shape[1:]) / REDUCED))
        sr, hr = (_reduced(image, by) for image in (sr, hr))
    return np.mean([ssim_map(a, b, blur, UNBIASED.get(window, 1.0)) for a, b in zip(sr, hr, strict=True)], axis=0)


def _means(image: np.ndarray) -> np.ndarray:
    inside = slice(MEANS // 2, -(MEANS // 2))
    return cv2.blur(image, (MEANS, MEANS))[inside, inside]


def _reduced(planes: np.ndarray, by: int) -> np.ndarray:
    return torch.nn.functional.avg_pool2d(torch.from_numpy(planes), by).numpy()

"""PSNR and SSIM on luma, in protocols that must never share a column: two, and a third on request.

``standard`` reproduces the published rows of most methods: the image as it would be saved (uint8), in float64.
``official`` is what the authors' evaluation code computes: the network's raw float32 output, and a luma that lies near
4100 instead of 16-235 because RGB is divided by 255 twice and the offset of 16 is multiplied by 255. The offset cancels
in PSNR but makes SSIM 0.001-0.005 too high, so its SSIM compares only with the paper's own SSIU rows.
``float`` scores the raw output without that fault, as BasicSR's `calculate_psnr_pt` and `calculate_ssim_pt` do.
"""

import math
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from pytorch_msssim import ssim as windowed_ssim
from torch import Tensor

from ssiu.errors import BadInputError

PROTOCOLS = ("standard", "official")  # what is computed
FLOAT = "float"  # on request
KNOWN = (*PROTOCOLS, FLOAT)

WINDOW = 11  # side of SSIM's Gaussian window
SIGMA = 1.5
_ON_DEVICE = threading.Lock()  # one image at a time: it takes much memory there, and no time
_LUMA = (65.481, 128.553, 24.966)  # of RGB in [0, 1]; ITU-R BT.601, studio range: Y = 16 ... 235


class Score(NamedTuple):
    """PSNR in dB (``inf`` for equal images) and SSIM."""

    psnr: float
    ssim: float


def psnr(sr: Any, hr: Any, scale: int, protocol: str = "standard") -> float:
    """PSNR in dB of an image and its original, on luma; infinite where they are equal.

    >>> hr = np.full((32, 32, 3), 100, np.uint8)
    >>> round(psnr(hr + np.uint8(1), hr, scale=2), 2)
    49.45

    Args:
        sr, hr: Pillow images or arrays, uint8 (H, W, 3) or gray (H, W); ``sr`` may also be a network's output, a float
            tensor (3, H, W) in [0, 1].
        scale: upscaling factor; as many pixels are shaved off every side.
        protocol: ``standard`` compares with most papers, ``official`` with the paper's SSIU rows, ``float`` with papers
            that score a network's raw output, such as CATANet's.

    Raises BadInputError (65) for another kind of image, two sizes, or one too small to score.
    """
    return _score(sr, hr, scale, protocol).psnr


def ssim(sr: Any, hr: Any, scale: int, protocol: str = "standard") -> float:
    """SSIM of an image and its original, on luma; arguments and errors as `psnr`.

    >>> hr = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    >>> round(ssim(hr, hr, scale=2), 4), round(ssim(hr // 2, hr, scale=2), 4)
    (1.0, 0.7418)
    """
    return _score(sr, hr, scale, protocol).ssim


def _score(sr: Any, hr: Any, scale: int, protocol: str) -> Score:
    if not isinstance(sr, Tensor):
        sr = rgb(sr)
    elif not sr.is_floating_point() or sr.ndim != 3 or len(sr) != 3:
        raise BadInputError(f"expected a float tensor (3, H, W) in [0, 1], got {sr.dtype} {tuple(sr.shape)}")
    return score(sr, rgb(hr), scale, protocol)


def rgb(image: Any) -> np.ndarray:
    """A Pillow image or array as uint8 (H, W, 3), gray replicated. Raises BadInputError (65) for another kind."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)  # as `read_rgb` does
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
        raise BadInputError(f"expected an image of uint8 (H, W, 3) or (H, W), got {pixels.dtype} {pixels.shape}")
    return pixels


def score(sr: Tensor | np.ndarray, hr: np.ndarray, scale: int, protocol: str) -> Score:
    """Compares an image with its original.

    Args:
        sr: the upscaled image: float (3, H, W) in [0, 1] as the network gives it, unclamped, or uint8 (H, W, 3).
        hr: the original, uint8 (H, W, 3).
        scale: upscaling factor; as many pixels are shaved off every side.
        protocol: one of `KNOWN`.

    Raises BadInputError (65) when the sizes differ or nothing is left for the SSIM window.
    """
    if protocol not in KNOWN:
        raise ValueError(f"protocol '{protocol}'; known: {', '.join(KNOWN)}")
    sr_size = sr.shape[:2] if isinstance(sr, np.ndarray) else tuple(sr.shape[1:])
    height, width = hr.shape[:2]
    if sr_size != (height, width):
        raise BadInputError(f"SR is {sr_size[1]}x{sr_size[0]} but HR is {width}x{height} pixels; they must be equal")
    check_size(height, width, scale)
    return {"standard": _standard, "official": _official, FLOAT: _float}[protocol](sr, hr, scale)


def check_size(height: int, width: int, scale: int) -> None:
    """Raises BadInputError (65) where shaving ``scale`` pixels off every side leaves less than one SSIM window."""
    smallest = WINDOW + 2 * scale
    if min(height, width) < smallest:
        raise BadInputError(
            f"a {width}x{height} image is too small to score: shaving {scale} pixels off every side and "
            f"SSIM's {WINDOW}x{WINDOW} window need at least {smallest}x{smallest}"
        )


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of uint8 RGB (H, W, 3): float64 (H, W) in [16, 235], not rounded."""
    return rgb.astype(np.float64, order="C") @ np.array(_LUMA) / 255 + 16


def to_uint8(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] -> uint8 (H, W, 3): clamped and rounded, as it is saved and as `standard` sees it."""
    return _rounded(image).byte().permute(1, 2, 0).cpu().contiguous().numpy()


def _rounded(image: Tensor) -> Tensor:
    return image.detach().float().mul(255).round_().clamp_(0, 255)


def mean_score(scores: Iterable[Score]) -> Score:
    """The mean of each number over the images of a set; an infinite PSNR is left out, unless all are infinite."""
    psnr, ssim = zip(*scores, strict=True)
    finite = [value for value in psnr if value != math.inf] or [math.inf]
    return Score(math.fsum(finite) / len(finite), math.fsum(ssim) / len(ssim))


def rounded(mean: Score, protocol: str) -> Score:
    """The two numbers as tables print them, with 2 and 4 digits; `official` rounds up as the authors' code does."""
    up = (5e-3, 5e-5) if protocol == "official" else (0.0, 0.0)
    return Score(round(mean.psnr + up[0], 2), round(mean.ssim + up[1], 4))


def _standard(sr: Tensor | np.ndarray, hr: np.ndarray, scale: int) -> Score:
    if isinstance(sr, Tensor) and sr.is_cuda:
        with _ON_DEVICE:
            return _standard_on_device(sr, hr, scale)
    if not isinstance(sr, np.ndarray):
        sr = to_uint8(sr)
    sr_y, hr_y = (_shave(luma(image), scale) for image in (sr, hr))
    return score_of_error(np.square(sr_y - hr_y).mean().item(), ssim_by_opencv(sr_y, hr_y))


def _standard_on_device(sr: Tensor, hr: np.ndarray, scale: int) -> Score:
    """`_standard` where ``sr`` is, in float64 too: on a GPU in a hundredth of a CPU's time."""
    sr = _rounded(sr).double()
    target = torch.from_numpy(hr).to(sr.device).permute(2, 0, 1).double()
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=sr.device)[:, None, None]
    return _compare(*(_shave((image * weights).sum(0) / 255 + 16, scale) for image in (sr, target)))


def ssim_by_opencv(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of two lumas (H, W) in float64 with a data range of 255.

    `standard` on a CPU takes this one: pytorch-msssim's is equal to 1e-9 but takes ten times as long there. `official`
    needs that one, whose order of additions decides its fourth digit.
    """
    return float(np.mean(ssim_map(a, b, gaussian_blur)))


def ssim_map(
    a: np.ndarray, b: np.ndarray, blurred: Callable[[np.ndarray], np.ndarray], unbiased: float = 1.0
) -> np.ndarray:
    """SSIM at every place where ``blurred`` gives a mean; ``unbiased`` multiplies variances and covariance."""
    mean_a, mean_b = blurred(a), blurred(b)
    aa, bb, ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    spread = (blurred(a * a + b * b) - aa - bb) * unbiased  # the sum of both variances is all that is needed of them
    covariance = (blurred(a * b) - ab) * unbiased
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return (2 * ab + c1) / (aa + bb + c1) * ((2 * covariance + c2) / (spread + c2))


def gaussian_blur(image: np.ndarray, around: int | None = None) -> np.ndarray:
    """SSIM's Gaussian means of (H, W): where the whole window fits, or everywhere with OpenCV's border ``around``."""
    window = _window(torch.float64).numpy()
    if around is not None:
        return cv2.sepFilter2D(image, cv2.CV_64F, window, window, borderType=around)
    inside = slice(WINDOW // 2, -(WINDOW // 2))
    return cv2.sepFilter2D(image, cv2.CV_64F, window, window)[inside, inside]


def _official(sr: Tensor | np.ndarray, hr: np.ndarray, scale: int) -> Score:
    """Everything in float32 and in the authors' order, because SSIM's fourth digit depends on both."""
    if isinstance(sr, np.ndarray):
        sr = _unit_range(sr)
    sr_y, hr_y = (_shave(_offset_luma(image), scale) * 255 for image in (sr.detach().float().cpu(), _unit_range(hr)))
    return _compare(sr_y, hr_y)


def _float(sr: Tensor | np.ndarray, hr: np.ndarray, scale: int) -> Score:
    """Nothing is clamped or rounded; luma in float32, the rest in float64. Equal images have 80 dB by its 1e-8."""
    if isinstance(sr, np.ndarray):
        sr = _unit_range(sr)
    lumas = []
    for image in (sr.detach().float().cpu(), _unit_range(hr)):
        y = (torch.tensordot(torch.tensor(_LUMA), image, dims=1) + 16) / 255  # (H, W) in [0, 1]
        lumas.append(_shave(y, scale).double().numpy())
    error = np.square(lumas[0] - lumas[1]).mean().item()
    return Score(-10 * math.log10(error + 1e-8), ssim_by_opencv(255 * lumas[0], 255 * lumas[1]))


def _offset_luma(rgb: Tensor) -> Tensor:
    """(3, H, W) in [0, 1] -> (H, W): the second division by 255 leaves little but the 16."""
    red, green, blue = rgb / 255
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue + 16


def _unit_range(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / 255  # (H, W, 3) -> (3, H, W)


def _shave(image, pixels: int):
    return image[..., pixels:-pixels, pixels:-pixels]


def _compare(sr: Tensor, hr: Tensor) -> Score:
    """PSNR and SSIM of two lumas (H, W) with a data range of 255, in their own precision."""
    window = _window(sr.dtype).view(1, 1, 1, WINDOW)
    similarity = windowed_ssim(sr[None, None], hr[None, None], data_range=255, win=window)
    return score_of_error((sr - hr).square().mean().item(), similarity.item())


def score_of_error(error: float, similarity: float) -> Score:
    """The score of a mean squared error in 255ths."""
    return Score(10 * math.log10(255**2 / error) if error > 0 else math.inf, similarity)


def _window(dtype: torch.dtype) -> Tensor:
    """SSIM's Gaussian, (11,)."""
    positions = torch.arange(WINDOW, dtype=dtype) - WINDOW // 2
    window = torch.exp(-positions.square() / (2 * SIGMA**2))
    return window / window.sum()

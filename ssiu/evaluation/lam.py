"""Local attribution maps: which LR pixels a piece of the SR image was made from (Gu and Dong, CVPR 2021).

The amount of structure inside a box of the SR image, D, is followed along a path from a blurred LR image to the
real one; the integral of D's gradient along the path gives every LR pixel its share of the change.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssiu.errors import BadInputError

STEPS = 50
SIGMA = 2.0  # LR pixels: blurs away what a super-resolution network works with
LEAST = 1e-4  # share of D: a change as small as this is rounding
SMOOTH = 1e-6  # keeps the length of a zero gradient differentiable


@dataclass(frozen=True)
class Attribution:
    """``values`` (H, W): the share of each LR pixel, over its channels. They should add up to ``change``, that of D."""

    values: np.ndarray
    change: float

    @property
    def error(self) -> float:
        """How far the attributions' sum is from ``change``, relative to it: 0 for infinitely many steps."""
        return abs(float(self.values.sum()) - self.change) / abs(self.change)

    @property
    def diffusion_index(self) -> float:
        """100 (1 - Gini coefficient of the absolute values): near 0 where one pixel does it all, 100 where all do."""
        values = np.sort(np.abs(self.values).ravel())
        ranks = np.arange(1, values.size + 1)
        gini = ((2 * ranks - values.size - 1) * values).sum() / (values.size * values.sum())
        return 100 * (1 - float(gini))


def attribute(
    network: Callable[[Tensor], Tensor],
    lr: Tensor,
    box: tuple[int, int, int, int],
    steps: int = STEPS,
    sigma: float = SIGMA,
) -> Attribution:
    """The attribution of the structure in ``box`` of the SR image to the pixels of ``lr``.

    Args:
        network: differentiable, (1, 3, H, W) in [0, 1] to (1, 3, sH, sW).
        lr: the image, (1, 3, H, W).
        box: (left, top, width, height) in SR pixels, at least 2 x 2.
        steps: points on the path; more make the sum of the attributions meet the change of D more closely.
        sigma: of the Gaussian at the blurred end of the path, in LR pixels.

    Raises BadInputError (65) for a box that does not lie in the SR image or without any structure in it, and for a
    network that has no gradient.
    """
    with torch.no_grad():
        sr = network(lr)
        _check_box(box, sr)
        sharp, smooth = (structure(image, box).item() for image in (sr, network(blurred(lr, sigma))))
    change = sharp - smooth
    if abs(change) <= LEAST * sharp:
        raise BadInputError(
            f"box {box}: the same after blurring, so there is nothing to attribute; choose another place"
        )
    total = torch.zeros_like(lr)
    for step in range(steps):
        start, end = (blurred(lr, sigma * (1 - point / steps)) for point in (step, step + 1))
        middle = ((start + end) / 2).requires_grad_()
        try:
            (gradient,) = torch.autograd.grad(structure(network(middle), box), middle)
        except RuntimeError as error:
            if "inplace" not in str(error):
                raise
            name = getattr(network, "architecture", type(network).__name__)
            raise BadInputError(
                f"{name} overwrites what its gradient needs, so it has no attribution; leave it out"
            ) from None
        total += gradient * (end - start)
    return Attribution(total[0].sum(0).double().cpu().numpy(), change)


def structure(sr: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """D: the length of the gray image's gradient, summed over the box (left, top, width, height) of (1, 3, H, W)."""
    left, top, width, height = box
    gray = sr[0, :, top : top + height, left : left + width].mean(0)  # (height, width)
    down, right = gray[1:, :-1] - gray[:-1, :-1], gray[:-1, 1:] - gray[:-1, :-1]
    return (down.square() + right.square() + SMOOTH).sqrt().sum()


def blurred(image: Tensor, sigma: float) -> Tensor:
    """``image`` (B, 3, H, W) under a Gaussian; its border pixels are repeated outwards."""
    if sigma < 0.05:  # all weight is on the middle
        return image
    radius = math.ceil(4 * sigma)
    positions = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-positions.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    for weight, padding in ((kernel, (radius, radius, 0, 0)), (kernel.mT, (0, 0, radius, radius))):
        image = F.conv2d(F.pad(image, padding, mode="replicate"), weight, groups=image.shape[1])
    return image


def _check_box(box: tuple[int, int, int, int], sr: Tensor) -> None:
    left, top, width, height = box
    sr_height, sr_width = sr.shape[-2:]
    inside = 0 <= left <= sr_width - width and 0 <= top <= sr_height - height
    if not inside or min(width, height) < 2:
        raise BadInputError(
            f"box {left},{top},{width},{height} (left, top, width, height) does not lie in the {sr_width}x{sr_height} "
            "SR image, or is smaller than 2x2"
        )

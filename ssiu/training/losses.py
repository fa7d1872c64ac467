"""The training loss, Eq. 21: L1 between images plus L1 between their Fourier transforms."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fft_l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute difference of the real and imaginary parts of the unnormalised 2-D real FFT.

    ``sr`` and ``hr`` are (B, 3, H, W) in float32 or float64. By linearity one transform of the difference
    is enough. For white error this term is proportional to the patch side, so its weight grows with it.
    """
    return torch.view_as_real(torch.fft.rfft2(sr - hr)).abs().mean()


class SRLoss(nn.Module):
    """``lambda_l1 * L1 + lambda_fft * FFT-L1`` (Eq. 21; the paper: 1 and 0.01).

    ``forward(sr, hr)`` takes (B, 3, H, W) in [0, 1], computes in at least float32 whatever the network's precision
    and returns the loss terms: 0-dim tensors by name, each weighted. Their sum is minimised. A weight of 0 leaves its
    term out.
    """

    def __init__(self, lambda_l1: float = 1.0, lambda_fft: float = 0.01):
        super().__init__()
        self.weights = {"l1": lambda_l1, "fft": lambda_fft}

    def forward(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        with torch.autocast(sr.device.type, enabled=False):
            sr = sr.to(hr.dtype)
            return {name: weight * TERMS[name](sr, hr) for name, weight in self.weights.items() if weight}


TERMS = {"l1": F.l1_loss, "fft": fft_l1}


def total_loss(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the loss terms, 0-dim: what is minimised."""
    return torch.stack(list(terms.values())).sum()

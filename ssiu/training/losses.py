"""The training loss, Eq. 21: L1 between images plus L1 between their Fourier transforms."""

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
    and returns three 0-dim tensors: total, weighted L1 and weighted FFT-L1.
    """

    def __init__(self, lambda_l1: float = 1.0, lambda_fft: float = 0.01):
        super().__init__()
        self.lambda_l1 = lambda_l1
        self.lambda_fft = lambda_fft

    def forward(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(sr.device.type, enabled=False):
            sr = sr.to(hr.dtype)
            l1 = self.lambda_l1 * F.l1_loss(sr, hr)
            fft = self.lambda_fft * fft_l1(sr, hr) if self.lambda_fft else torch.zeros_like(l1)
        return l1 + fft, l1, fft

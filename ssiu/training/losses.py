"""The training loss: Eq. 21 by default, or any weighted sum of the losses below and of the user's own."""

from collections.abc import Mapping
from typing import Any

import pytorch_msssim
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.config.schema import Config
from ssiu.errors import ConfigError
from ssiu.plugins import class_of, failure, find, is_plugin


class FFTLoss(nn.Module):
    """Mean absolute difference of the real and imaginary parts of the unnormalised 2-D real FFT (Eq. 21).

    By linearity one transform of the difference is enough. For white error it is proportional to the patch side, so its
    weight grows with it.
    """

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.rfft2(sr - hr)).abs().mean()


class CharbonnierLoss(nn.Module):
    """Mean of ``sqrt((SR - HR)^2 + eps^2)`` (LapSRN, Lai et al., CVPR 2017)."""

    def __init__(self, eps: float = 1e-3):
        super().__init__()
        self.eps = eps

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return ((sr - hr).square() + self.eps**2).sqrt().mean()


class SSIMLoss(nn.Module):
    """``1 - SSIM`` of the RGB channels: an 11x11 Gaussian window of sigma 1.5, no padding."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", pytorch_msssim.SSIM(channel=3).win)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        side = self.window.shape[-1]
        if min(hr.shape[2:]) < side:
            raise ValueError(f"its window needs patches of {side}x{side} or more")
        return 1 - pytorch_msssim.ssim(sr, hr, data_range=1.0, win=self.window)


class GradientLoss(nn.Module):
    """Mean absolute difference of the horizontal and vertical derivatives: Sobel's kernels, undivided, no padding."""

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        self.register_buffer("kernels", torch.stack([sobel, sobel.T])[:, None])  # (2, 1, 3, 3)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        difference = (sr - hr).flatten(0, 1)[:, None]  # (3B, 1, H, W)
        return F.conv2d(difference, self.kernels.to(hr.dtype)).abs().mean()


LOSSES: dict[str, type[nn.Module]] = {
    "l1": nn.L1Loss,
    "fft": FFTLoss,
    "charbonnier": CharbonnierLoss,
    "mse": nn.MSELoss,
    "ssim": SSIMLoss,
    "gradient": GradientLoss,
}


class SRLoss(nn.Module):
    """A weighted sum of losses, each a module that makes a 0-dim tensor of SR and HR.

    ``losses`` has the weight of each by name, or a mapping of its ``weight`` and the arguments of its class; the
    default is Eq. 21. A weight of 0 leaves its loss out. Raises ConfigError (78) for one that cannot be built.

    ``forward(sr, hr)`` takes (B, 3, H, W) in [0, 1], computes in at least float32 whatever the network's precision
    and returns the loss terms: 0-dim tensors by name, each weighted. Their sum is minimised.
    """

    def __init__(self, losses: Mapping[str, float | Mapping[str, Any]] | None = None):
        super().__init__()
        self.weights: dict[str, float] = {}
        self.terms = nn.ModuleDict()
        for name, value in (losses or {"l1": 1.0, "fft": 0.01}).items():
            arguments = dict(value) if isinstance(value, Mapping) else {"weight": value}
            if weight := arguments.pop("weight"):
                self.weights[class_of(name)] = weight
                self.terms[class_of(name)] = _build(name, arguments)

    def forward(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        with torch.autocast(sr.device.type, enabled=False):
            sr = sr.to(hr.dtype)
            return {name: self.weights[name] * term(sr, hr) for name, term in self.terms.items()}


def _build(name: str, arguments: dict[str, Any]) -> nn.Module:
    kind = find("losses", name, nn.Module) if is_plugin(name) else LOSSES[name]
    try:
        return kind(**arguments)
    except Exception as error:
        raise failure("losses", name, f"cannot be built with {arguments}", error) from error


def build_loss(config: Config) -> SRLoss:
    """The loss of ``config``, each term tried on a patch; its own parameters, if it has any, are not trained.

    Raises ConfigError (78) for a term that cannot be built, fails, or makes something else than a 0-dim tensor.
    """
    loss = SRLoss(config.loss_terms)
    patch = torch.zeros(1, 3, config.patch_size, config.patch_size)
    for name, term in loss.terms.items():
        try:
            value = term(patch, patch)
        except Exception as error:
            raise failure("losses", name, f"fails on patches {tuple(patch.shape)}", error) from error
        if not isinstance(value, Tensor) or value.ndim:
            got = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ConfigError(f"losses {name} makes {got} of SR and HR; expected a 0-dim tensor, such as a mean")
    return loss.requires_grad_(False)


def total_loss(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the loss terms, 0-dim: what is minimised."""
    return torch.stack(list(terms.values())).sum()

"""Networks of other kinds than weights: bicubic interpolation, and whatever the file holds that a command is given."""

from pathlib import Path

import torch
from torch import Tensor

from ssiu.errors import BadInputError
from ssiu.export.onnx import OnnxNetwork
from ssiu.images.bicubic import imresize
from ssiu.models.base import SRNetwork
from ssiu.weights.hub import is_on_hub
from ssiu.weights.load import load_model


class Bicubic(SRNetwork):
    """MATLAB's bicubic interpolation as a network: (1, 3, H, W) to (1, 3, sH, sW), rounded to 8 bit as in papers."""

    reentrant = True

    def forward(self, lr: Tensor) -> Tensor:
        pixels = lr[0].permute(1, 2, 0).mul(255).round().clamp(0, 255).byte()  # (H, W, 3)
        sr = imresize(pixels.cpu().numpy(), scale=self.scale)
        return torch.from_numpy(sr).permute(2, 0, 1)[None].to(lr) / 255


def load_network(weights: Path | None, scale: int | None, device: torch.device) -> SRNetwork:
    """The network of a file of weights or an ONNX file; without a file the shipped one of ``scale``, or x4.

    Raises what `load_model` and `OnnxNetwork` raise, and BadInputError (65) for another scale than asked.
    """
    if weights is None or weights.suffix != ".onnx" or is_on_hub(weights):
        return load_model(weights or scale or 4, device, scale)
    network = OnnxNetwork(weights, device=device)
    if scale not in (None, network.scale):
        raise BadInputError(
            f"{weights} upscales by {network.scale}, not {scale}; leave --scale out or use another file"
        )
    return network

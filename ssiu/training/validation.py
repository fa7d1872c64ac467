"""What is looked at during training: PSNR/SSIM of every set, and a few images side by side."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ssiu.config import Config
from ssiu.data.bicubic import imresize
from ssiu.data.test_sets import BenchmarkSet
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import Score, to_uint8
from ssiu.upscaling.tiles import super_resolve

SHOWN_IMAGES = 4  # of each set


def score_sets(
    network: Callable[[Tensor], Tensor], sets: Sequence[BenchmarkSet], config: Config, device: torch.device
) -> dict[str, Score]:
    """Mean PSNR and SSIM of every set under the `standard` protocol."""
    result = evaluate(
        network, sets, device=device, precision=config.precision, tile=config.tile, protocols=("standard",)
    )
    return {test_set.name: result.mean(test_set.name) for test_set in sets}


@torch.no_grad()
def comparison_strips(
    network: Callable[[Tensor], Tensor], sets: Sequence[BenchmarkSet], config: Config, device: torch.device
) -> dict[str, np.ndarray]:
    """LR | bicubic | SR | HR side by side, uint8 (H, 4W, 3), for the first images of each set."""
    strips = {}
    for test_set in sets:
        for index in range(min(SHOWN_IMAGES, len(test_set))):
            name, lr, hr = test_set[index]
            x = torch.from_numpy(lr).permute(2, 0, 1)[None].to(device).float() / 255  # (1, 3, h, w)
            sr = to_uint8(super_resolve(network, x, tile=config.tile)[0])
            nearest = lr.repeat(config.scale, axis=0).repeat(config.scale, axis=1)
            strips[f"{test_set.name}_{name}"] = np.hstack([nearest, imresize(lr, scale=config.scale), sr, hr])
    return strips

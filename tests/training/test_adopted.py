"""A config that `ssiu adopt` wrote trains as the option file says: against a loop in plain torch, written out here."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import equal
from tiny_run import make_set
from torch import Tensor, nn

from ssiu.cli import export
from ssiu.config.basicsr.adopt import adopt
from ssiu.config.load import load_config
from ssiu.training.trainer import Trainer

ARCHITECTURE = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

@ARCH_REGISTRY.register()
class Small(nn.Module):
    def __init__(self, upscale, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(width, 3 * upscale**2, 3, padding=1), nn.PixelShuffle(upscale))
    def forward(self, lr):
        return self.tail(self.body(lr))
"""
OPTIONS = """
name: small
model_type: SRModel
scale: 2
num_gpu: 2
manual_seed: 3
datasets:
  train:
    type: PairedImageDataset
    dataroot_gt: {folder}/train/HR
    dataroot_lq: {folder}/train/LR_bicubic/X2
    filename_tmpl: '{{}}x2'
    gt_size: 16
    use_hflip: true
    use_rot: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 5
network_g: {{type: Small, upscale: 2, width: 6}}
path: {{pretrain_network_g: ~, resume_state: ~}}
train:
  ema_decay: 0.9
{train}
  total_iter: 20
logger: {{print_freq: 10, save_checkpoint_freq: !!float 1e2}}
"""
STEPS = """
  optim_g: {type: Adam, lr: !!float 2e-3, weight_decay: 0.1, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [8, 12, 12], gamma: 0.5}
  warmup_iter: 5
  pixel_opt: {type: L1Loss, loss_weight: 0.5, reduction: mean}
  fft_opt: {type: FFTLoss, loss_weight: 0.05, reduction: mean}
"""
COSINES = """
  optim_g: {type: AdamW, lr: !!float 2e-3, betas: [0.9, 0.9]}
  scheduler: {type: CosineAnnealingRestartLR, periods: [6, 14], restart_weights: [1, 0.5], eta_min: !!float 1e-5}
  warmup_iter: 3
  pixel_opt: {type: CharbonnierLoss, loss_weight: 1.0, reduction: sum, eps: !!float 1e-4}
"""


def stepwise(steps: int) -> list[float]:
    """The rate is multiplied at each milestone, and a warm-up sets it: each from the one before."""
    rates, rate = [], 2e-3
    for step in range(steps):
        rate *= 0.5 ** [8, 12, 12].count(step)
        if step + 1 < 5:
            rate = 2e-3 * (step + 1) / 5
        rates.append(rate)
    return rates


def cosines(steps: int) -> list[float]:
    rates = []
    for step in range(steps):
        weight, length, at = (1, 6, step) if step <= 6 else (0.5, 14, step - 6)
        rate = 1e-5 + weight * (2e-3 - 1e-5) * (1 + math.cos(math.pi * at / length)) / 2
        rates.append(2e-3 * (step + 1) / 3 if step + 1 < 3 else rate)
    return rates


def l1_and_fft(sr: Tensor, hr: Tensor) -> Tensor:
    difference = [torch.stack([f.real, f.imag], -1) for f in (torch.fft.rfft2(sr), torch.fft.rfft2(hr))]
    return 0.5 * (sr - hr).abs().mean() + 0.05 * (difference[0] - difference[1]).abs().mean()


def summed_charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Of one of two GPUs, each with half of the batch, whose gradients are averaged."""
    return ((sr - hr) ** 2 + 1e-4).sqrt().sum() / 2


@pytest.mark.parametrize(
    ("train", "kind", "arguments", "rates", "loss"),
    [
        (STEPS, torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.9, 0.99)}, stepwise(20), l1_and_fft),
        (COSINES, torch.optim.AdamW, {"betas": (0.9, 0.9)}, cosines(20), summed_charbonnier),
    ],
    ids=["steps", "cosines"],
)
def test_twenty_steps_are_those_of_basicsrs_optimizer_schedule_average_and_loss(
    tmp_path: Path,
    train: str,
    kind: type[torch.optim.Optimizer],
    arguments: dict,
    rates: list[float],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    make_set(tmp_path / "train", 4)
    (tmp_path / "small_arch.py").write_text(ARCHITECTURE)
    (tmp_path / "options.yml").write_text(OPTIONS.format(folder=tmp_path, train=train))
    (tmp_path / "my.yml").write_text(adopt(tmp_path / "options.yml", tmp_path / "small_arch.py").to_yaml())
    places = [f"log_path={tmp_path}/logs", f"cache_dir={tmp_path}/cache", "device=cpu"]
    run = Trainer(load_config(tmp_path / "my.yml", places))
    assert run.ema and run.config.batch_size == 4 and run.schedule.total_steps == 20

    network: nn.Module = run.model.core.__class__(upscale=2, width=6)
    network.load_state_dict(run.model.state_dict())
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = kind(network.parameters(), lr=1.0, **arguments)  # type: ignore[call-arg]  # torch's take it
    for step, (lr, hr) in enumerate(run.stream.loader(0, 20)):
        optimizer.param_groups[0]["lr"] = rates[step]
        optimizer.zero_grad()
        loss(network(lr / 255), hr / 255).backward()
        optimizer.step()
        for name, tensor in network.state_dict().items():
            average[name] = 0.9 * average[name] + 0.1 * tensor

    run.run()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=0, atol=1e-6)
        torch.testing.assert_close(run.ema.module.state_dict()[name], average[name], rtol=0, atol=1e-6)
        assert not torch.allclose(tensor, average[name], rtol=0, atol=1e-4)
    assert_goes_back(run, tmp_path)


def assert_goes_back(run: Trainer, folder: Path) -> None:
    """What was trained loads strictly into the class of the architecture file, as BasicSR would load it."""
    last = run.config.run_folder / "models/last.pt"
    export.main(["basicsr", str(last), str(folder / "net_g.pth"), "--config", str(folder / "my.yml")])
    saved = torch.load(folder / "net_g.pth", weights_only=True)
    assert list(saved) == ["params", "params_ema"] and run.ema
    for name, trained in (("params", run.model), ("params_ema", run.ema.module)):
        network = run.model.core.__class__(upscale=2, width=6)
        network.load_state_dict(saved[name], strict=True)
        assert equal(network.state_dict(), trained.state_dict())

"""Depthwise convolutions in oneDNN's fast forms: the same numbers, and IDSA-Net asks for no slow form."""

import pytest
import torch
from tiny import tiny
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssiu.models.idsa_net.depthwise import DepthwiseConv, from_phases, to_phases
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.idsa_net.shared_attention import SequenceUnit

BACKWARD = torch.ops.aten.convolution_backward.default


def output_and_gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    module.zero_grad()
    x = x.clone().requires_grad_()
    out = module(x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return [out.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (5, 1), (7, 1), (7, 3), (5, 2)])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (17, 10), (1, 5)])
def test_output_and_gradients_are_torchs_own(size, dilation, height, width):
    torch.manual_seed(0)
    conv = DepthwiseConv(4, size, dilation).double()
    x = torch.rand(2, 4, height, width).double()
    expected = output_and_gradients(plain(conv), x)
    for found, wanted in zip(output_and_gradients(conv, x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    with torch.inference_mode():
        torch.testing.assert_close(conv(x), expected[0], rtol=1e-9, atol=1e-9)


def plain(conv: DepthwiseConv) -> nn.Conv2d:
    """torch's own convolution of the same parameters."""
    arguments = dict(padding=conv.padding, dilation=conv.dilation, groups=conv.groups)
    same = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, **arguments)
    same.weight, same.bias = conv.weight, conv.bias
    return same


def test_autocast_computes_in_bfloat16_and_gradients_are_float32():
    conv, x = DepthwiseConv(8, 7, 3), torch.rand(1, 8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x)
    out.sum().backward()
    assert (out.dtype, conv.weight.grad.dtype, conv.bias.grad.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    torch.testing.assert_close(out.float(), plain(conv)(x), rtol=0.02, atol=0.02)


def test_frozen_kernels_let_the_images_gradient_through():
    conv, x = DepthwiseConv(4, 5).requires_grad_(False), torch.rand(1, 4, 8, 8, requires_grad=True)
    conv(x).sum().backward()
    assert x.grad.any() and conv.weight.grad is None


def test_phases_are_every_third_pixel_and_back():
    x = torch.rand(2, 3, 8, 10)
    phases = to_phases(x, 3)
    assert phases.shape == (18, 3, 3, 4)
    assert phases[2 * (3 * 1 + 2) + 1, :, :2, :2].equal(x[1, :, 1:5:3, 2:6:3])
    assert from_phases(phases, 3, 8, 10).equal(x)


class Convolutions(TorchDispatchMode):
    """Counts what of the convolutions' gradients oneDNN is slow in."""

    def __init__(self):
        super().__init__()
        self.gradients = self.wide = self.dilated = self.planar = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is BACKWARD:
            grad, _, weight, _, _, _, dilation, *_, groups, mask = args
            depthwise = groups == weight.shape[0]
            self.gradients += 1
            self.wide += depthwise and mask[1] and weight.dim() == 4 and weight.shape[3] > 3
            self.dilated += max(dilation) > 1
            self.planar += grad.dim() == 4 and not grad.is_contiguous(memory_format=torch.channels_last)
        return func(*args, **kwargs or {})


def test_idsa_nets_step_asks_for_nothing_that_is_slow():
    model = tiny(kind=IDSANet, num_heads=2)
    with Convolutions() as seen, torch.autocast("cpu", torch.bfloat16):
        model(torch.rand(2, 3, 16, 24)).float().square().sum().backward()
    assert seen.gradients > 40
    assert (seen.wide, seen.dilated, seen.planar) == (0, 0, 0)


def test_idsa_net_is_the_network_of_torchs_own_convolutions(monkeypatch):
    torch.manual_seed(0)
    model = tiny(kind=IDSANet, num_heads=2)
    lr = torch.linspace(0, 1, 2 * 3 * 17 * 25).view(2, 3, 17, 25).sin()
    found = output_and_gradients(model, lr)
    monkeypatch.setattr(DepthwiseConv, "forward", nn.Conv2d.forward)
    monkeypatch.setattr(SequenceUnit, "_convolve", lambda unit, x: unit.conv(x.transpose(1, 2)).transpose(1, 2))
    for a, b in zip(found, output_and_gradients(model, lr), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-7

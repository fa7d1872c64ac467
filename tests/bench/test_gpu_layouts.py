"""The layouts that `ssiu benchmark gpu` races: the same network and gradients, swapped in from outside."""

import pytest
import torch
from tiny import tiny

from ssiu.bench import gpu_layouts
from ssiu.bench.gpu_layouts import in_layout


def gradient_and_output(model):
    lr = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model.zero_grad()
    sr = model(lr)
    sr.square().sum().backward()
    return sr.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("layout", ["planar", "shifted"])
@pytest.mark.parametrize("arguments", [{"scale": 2}, {"scale": 4, "attention": "dense"}])
def test_every_layout_computes_the_same_network(layout, arguments):
    model = tiny(**arguments).double()
    expected = gradient_and_output(model)
    found = gradient_and_output(in_layout(model, layout))
    assert not torch.equal(found[1], expected[1]), "the layout took no part"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_gradients_of_the_shifted_form_are_right():
    x, weight, bias = (
        torch.rand(size, dtype=torch.float64, requires_grad=True) for size in ((2, 3, 2, 5), (3, 1, 3, 3), (3,))
    )
    assert torch.autograd.gradcheck(gpu_layouts.ReflectedBorder.apply, (x,))
    wide = torch.rand(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gpu_layouts.ShiftedProducts.apply, (wide, weight, bias))

"""The prepared network: the same images, from weights that no longer follow the network's."""

import pytest
import torch
from tiny import tiny

from ssiu.inference import packed
from ssiu.inference.prepare import prepare
from ssiu.models.ssiu import SSIU

SIZES = [(1, 1), (16, 32), (23, 41), (70, 18)]


def outputs(network, other, height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    lr = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(lr), other(lr)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "variant",
    [dict(scale=2), dict(scale=3), dict(scale=4), dict(attention="dense"), dict(moe=False), dict(skip="raw")],
)
def test_float32_gives_the_networks_output(variant, size, monkeypatch):
    monkeypatch.setattr(packed, "STRIP_PIXELS", 512)  # several strips, the last one shorter
    model = tiny(**variant).eval()
    found, expected = outputs(prepare(model), model, *size, batch=2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_float32_of_full_size_gives_the_networks_output():
    torch.manual_seed(0)
    model = SSIU(4).eval()
    torch.testing.assert_close(*outputs(prepare(model), model, 40, 56), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_bfloat16_stays_close_and_puts_out_float32(size):
    model = tiny(scale=4).eval()
    found, expected = outputs(prepare(model, torch.bfloat16), model, *size)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    assert not torch.equal(found, expected)


def test_without_the_operators_it_is_the_network_itself(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = tiny().eval()
    found, expected = outputs(prepare(model), model, 20, 24)
    assert torch.equal(found, expected)


def test_the_network_is_left_as_it_was_and_may_go_on_training():
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepared = prepare(model)
    lr = torch.rand(1, 3, 16, 16)
    first = prepared(lr)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(lr).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    assert torch.equal(prepared(lr), first)


@pytest.mark.parametrize("height", [2, 5, 9])
@pytest.mark.parametrize("rows", [4, 5])
def test_strips_of_any_height_give_the_whole(height, rows, monkeypatch):
    monkeypatch.setattr(packed, "STRIP_PIXELS", rows * 6)
    tail = tiny(scale=2).tail.eval()
    features = torch.rand(2, 8, height, 6)
    with torch.no_grad():
        torch.testing.assert_close(packed.in_strips(tail, 2)(features), tail(features), rtol=0, atol=1e-6)

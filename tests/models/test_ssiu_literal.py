"""The fast network computes what the literal one does: outputs and gradients, every variant."""

import pytest
import torch

from ssiu.models.literal import LiteralSSIU
from ssiu.models.ssiu import SSIU

VARIANTS = [
    dict(scale=2),
    dict(scale=3),
    dict(scale=4),
    dict(scale=2, attention="dense"),
    dict(scale=2, moe=False),
    dict(scale=2, beta_sign="plus"),
    dict(scale=2, skip="raw"),
    dict(scale=2, num_heads=1, n_feats=16),
]


def pair(seed: int = 0, **arguments) -> tuple[SSIU, LiteralSSIU]:
    """The two networks with the same weights."""
    arguments = dict(n_feats=8, num_heads=2, n_blocks=3) | arguments
    torch.manual_seed(seed)
    ours, literal = SSIU(**arguments), LiteralSSIU(**arguments)
    literal.load_state_dict(ours.state_dict())
    return ours, literal


def gradients(model: torch.nn.Module, lr: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    lr = lr.clone().requires_grad_()
    (model(lr) * weight).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()} | {"lr": lr.grad}


@pytest.mark.parametrize("arguments", VARIANTS)
def test_output_and_gradients_equal_the_literal_networks(arguments):
    ours, literal = (model.double() for model in pair(**arguments))
    lr = torch.rand(2, 3, 23, 41, dtype=torch.float64)
    expected = literal(lr)
    torch.testing.assert_close(ours(lr), expected, rtol=0, atol=1e-12)
    weight = torch.randn_like(expected)
    torch.testing.assert_close(gradients(ours, lr, weight), gradients(literal, lr, weight), rtol=1e-9, atol=1e-11)


def test_float32_output_equals_the_literal_networks_at_full_size():
    ours, literal = pair(scale=4, n_feats=64, num_heads=4, n_blocks=9)
    lr = torch.rand(1, 3, 24, 40)
    with torch.inference_mode():
        torch.testing.assert_close(ours(lr), literal(lr), rtol=0, atol=1e-5)

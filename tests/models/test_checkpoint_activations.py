"""Checkpointed activations: the same gradients from less memory."""

import pytest
import torch
from tiny import tiny
from torch import nn

from ssiu.models.base import checkpoint_activations
from ssiu.models.custom import CustomNetwork
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.ssiu import SSIU


def trained_once(model: torch.nn.Module) -> tuple[dict[str, torch.Tensor], int]:
    """The gradients of one batch, and the bytes of activations kept for them."""
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no other gets its address
        return tensor

    lr = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)  # of what the network draws
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(lr).square().sum()
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, size


class Dropping(nn.Module):
    """A custom network may have stages that draw which part of them is left out."""

    def __init__(self, scale: int, n_feats: int, n_blocks: int):
        super().__init__()
        self.head = nn.Conv2d(3, n_feats, 3, padding=1)
        layers = (nn.Conv2d(n_feats, n_feats, 3, padding=1), nn.GELU(), nn.Dropout(0.5))
        self.body = nn.ModuleList(nn.Sequential(*layers) for _ in range(n_blocks))

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        x = self.head(lr)
        for stage in self.body:
            x = x + stage(x)
        return x


def custom(**arguments: int) -> CustomNetwork:
    return CustomNetwork(Dropping(**arguments), "my_nets:Dropping", arguments["scale"], arguments)


@pytest.mark.parametrize("kind", [SSIU, IDSANet, custom])
def test_gradients_are_bit_equal_and_the_stages_keep_less(kind):
    plain, checkpointed = tiny(kind=kind), tiny(kind=kind)
    checkpoint_activations(checkpointed)
    assert list(checkpointed.state_dict()) == list(plain.state_dict())
    expected, whole = trained_once(plain)
    found, less = trained_once(checkpointed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert less < 0.6 * whole

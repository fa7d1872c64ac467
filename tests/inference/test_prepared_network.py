"""Preparation: custom networks bring their own form, others are called as they are, in the precision asked for."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssiu.errors import ConfigError
from ssiu.inference.prepare import PreparedNetwork, prepare
from ssiu.models.base import SRNetwork
from ssiu.models.custom import CustomNetwork

LR = torch.rand(1, 3, 6, 5)


class Net(nn.Module):
    """A module of a user's, with no attribute of the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, lr: Tensor, *tile_offset: Tensor) -> Tensor:
        return F.interpolate(self.conv(lr), scale_factor=2) + sum(offset.sum() for offset in tile_offset)


class Prepared(Net):
    """One that prepares itself, and says the rest as well."""

    size_multiple = 4
    takes_tile_offset = True
    dtypes = (torch.bfloat16,)
    bytes_per_lr_pixel = 123
    reentrant = True
    scale = "not that of the contract"

    def prepare_for_inference(self, dtype: torch.dtype | None = None):
        self.asked = dtype
        return lambda lr, *tile_offset: 2 * self(lr, *tile_offset)


def custom(network: nn.Module) -> CustomNetwork:
    return CustomNetwork(network, "my_nets:Net", 2, {})


def test_a_custom_network_is_called_as_it_is_and_described_by_defaults() -> None:
    network = custom(Net())
    prepared = prepare(network)
    assert prepared.run is network
    assert prepared == PreparedNetwork(network)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_its_own_preparation_is_used_and_what_it_says_of_itself_holds(dtype: torch.dtype | None) -> None:
    inner = Prepared()
    network = custom(inner)
    prepared = prepare(network, dtype)
    assert inner.asked == dtype and network.scale == 2
    found = prepared.size_multiple, prepared.takes_tile_offset, prepared.bytes_per_lr_pixel, prepared.reentrant
    assert found == (4, True, 123, True)
    with torch.no_grad():
        offset = torch.tensor([4, 8, 20, 30])
        expected = 2 * inner(LR, offset)
        torch.testing.assert_close(prepared(LR, offset).float(), expected, rtol=0.02, atol=0.02 if dtype else 0)


def test_nothing_is_set_on_what_the_user_wrote() -> None:
    inner = Prepared()
    before = vars(inner).copy()
    prepare(custom(inner).eval())
    assert vars(inner).keys() - before.keys() == {"asked"}


@pytest.mark.parametrize("kind", ["custom", "function"])
def test_any_network_is_computed_in_the_precision_asked_for(kind: str) -> None:
    network = Net()
    model = custom(network) if kind == "custom" else network.forward
    with torch.no_grad():
        assert prepare(model)(LR).equal(network(LR))
        rounded = prepare(model, torch.bfloat16)(LR)
    assert rounded.dtype == torch.bfloat16 and (rounded - network(LR)).abs().max() < 0.02


def test_a_precision_that_a_network_does_not_offer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"my_nets cannot be computed in torch\.float16; use precision fp32 or tf32"):
        prepare(custom(Prepared()), torch.float16)


def test_what_is_prepared_stays_as_it_is() -> None:
    prepared = prepare(SRNetwork(2))
    assert prepare(prepared, torch.bfloat16) is prepared

"""The contract of a network: what it says by itself, and what stands in its constructor alone."""

import inspect

import pytest
import torch
from tiny import tiny
from torch import Tensor, nn

from ssiu.config.load import make_config
from ssiu.models import MODELS, build_model
from ssiu.models.base import SRNetwork


class Scaled(SRNetwork):
    """A network that says nothing but its scale."""

    def __init__(self, scale: int, gain: float = 1.0):
        doubled = 2 * gain
        super().__init__(scale, locals())
        self.gain = nn.Parameter(torch.tensor(doubled))

    def forward(self, lr: Tensor) -> Tensor:
        return self.gain * nn.functional.interpolate(lr, scale_factor=self.scale)


def test_a_network_that_says_nothing_has_the_contracts_defaults() -> None:
    network = Scaled(3, gain=0.5)
    assert (network.scale, network.architecture, network.config_name) == (3, "Scaled", "Scaled")
    assert network.arguments() == {"scale": 3, "gain": 0.5}
    assert Scaled.arguments_from(network.state_dict()) is None
    assert network.core is network and network.padded_size(5, 7) == (5, 7)
    assert (network.tail_prefixes, network.takes_tile_offset, network.reentrant) == ((), False, False)


def test_it_is_where_its_parameters_are() -> None:
    assert Scaled(2).device == torch.device("cpu")
    assert Scaled(2).to("meta").device == torch.device("meta")
    assert SRNetwork(2).device == torch.device("cpu")


@pytest.mark.parametrize("kind", dict.fromkeys(MODELS.values()))
def test_arguments_are_those_of_the_constructor_and_build_the_network_again(kind: type[SRNetwork]) -> None:
    network = tiny(kind=kind)
    arguments = network.arguments()
    assert list(arguments) == list(inspect.signature(kind).parameters)
    again = kind(**arguments)
    assert again.arguments() == arguments
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in network.named_parameters()}
    arguments["scale"] = 99
    assert network.arguments()["scale"] == 2, "what is handed out is a copy"


def test_a_config_builds_it_from_the_keys_of_its_arguments() -> None:
    config = make_config({"scale": 2, "n_feats": 16, "num_heads": 2, "n_blocks": 3, "attention": "dense", "moe": False})
    expected = {"scale": 2, "n_feats": 16, "num_heads": 2, "n_blocks": 3, "attention": "dense", "moe": False}
    assert build_model(config).arguments() == {**expected, "beta_sign": "minus", "skip": "norm"}


def test_windows_set_the_size_that_a_network_computes_on() -> None:
    assert tiny().padded_size(17, 32) == (32, 32)

"""Files of networks as their authors wrote them, without glue: words for the scale, ranges, options, scales."""

import copy
import sys
from collections.abc import Iterator

import pytest
import torch

from ssiu.config.load import load_config, make_config
from ssiu.errors import ConfigError
from ssiu.inference.prepare import prepare
from ssiu.models import build_model

NETS = """
import torch
from torch import nn

class Up(nn.Module):
    def make(self, s, width=4):
        self.s, self.width = s, width
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3 * s**2, 1), nn.PixelShuffle(s))
    def forward(self, lr):
        return self.body(lr)

class Fixed(Up):
    def __init__(self):
        super().__init__(); self.make(2)

class Keywords(Up):
    def __init__(self, **kwargs):
        super().__init__(); self.make(kwargs["scale"])

class Two(Up):
    def __init__(self, scale=0.1, upscale=4):
        super().__init__(); self.make(upscale); self.factor = scale

class Options(Up):
    def __init__(self, args, conv=nn.Conv2d):
        super().__init__(); self.args = args; self.make(args.scale[0], args["width"])
        self.deep = getattr(args, "deep", False)
    def forward(self, lr):
        return self.body(lr)[:, :self.args.colors]

class Asked(Up):
    def __init__(self, scale):
        super().__init__(); self.make(scale)
    def forward(self, lr, scale):
        assert scale == self.s
        return self.body(lr)

class Bytes(Up):
    def __init__(self, sf):
        super().__init__(); self.make(sf)
    def forward(self, lr):
        return self.body(lr) + 255
    def prepare_for_inference(self, dtype):
        return self.forward

""" + "".join(
    f"""
class By_{word}(Up):
    def __init__(self, width=4, {word}=3):
        super().__init__(); self.make({word}, width)
"""
    for word in ("scale", "upscale", "upscaling_factor", "upscale_factor", "scale_factor", "sf")
)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of a file with them."""
    path = tmp_path_factory.mktemp("nets") / "their_net.py"
    path.write_text(NETS)
    yield str(path)
    for name in [name for name in sys.modules if name.startswith("_ssiu_")]:
        del sys.modules[name]


@pytest.mark.parametrize("word", ["scale", "upscale", "upscaling_factor", "upscale_factor", "scale_factor", "sf"])
def test_the_scale_is_given_under_the_word_that_the_constructor_takes(nets: str, word: str) -> None:
    network = build_model(make_config({"model": f"{nets}:By_{word}", "scale": 2, "model_args": {"width": 5}}))
    assert (network.network.s, network.network.width, network.architecture) == (2, 5, f"By_{word}")


def test_a_constructor_without_such_a_word_gets_none_and_one_that_takes_anything_gets_scale(nets: str) -> None:
    assert build_model(make_config({"model": f"{nets}:Fixed", "scale": 2})).scale == 2
    assert build_model(make_config({"model": f"{nets}:Keywords", "scale": 3})).scale == 3
    with pytest.raises(ConfigError, match=r"makes \(1, 3, 128, 128\).*expected 4 times"):
        build_model(make_config({"model": f"{nets}:Fixed", "scale": 4}))


def test_of_two_words_the_config_says_which(nets: str) -> None:
    with pytest.raises(ConfigError, match=r"takes scale and upscale: which is the upscaling factor\? .*model_args"):
        build_model(make_config({"model": f"{nets}:Two", "scale": 2}))
    told = {"model": f"{nets}:Two", "scale": 2, "model_args": {"upscale": 2}}
    assert build_model(make_config(told)).network.factor == 0.1


def test_options_are_read_as_attributes_and_as_items_and_survive_a_copy(nets: str) -> None:
    arguments = {"args": {"scale": [2], "width": 6, "colors": 3}}
    network = copy.deepcopy(build_model(make_config({"model": f"{nets}:Options", "scale": 2, "model_args": arguments})))
    assert network(torch.zeros(1, 3, 4, 5)).shape == (1, 3, 8, 10) and not network.network.deep
    del arguments["args"]["colors"]
    with pytest.raises(ConfigError, match="AttributeError: it has no colors, only scale, width"):
        build_model(make_config({"model": f"{nets}:Options", "scale": 2, "model_args": arguments}))


def test_arguments_may_differ_by_scale(nets: str) -> None:
    by_scale = {"width": 5, "x2": {"width": 6}, "x4": {"width": 7}}
    config = {"model": f"{nets}:By_sf", "model_args": by_scale}
    assert [build_model(make_config(config | {"scale": s})).network.width for s in (2, 3, 4)] == [6, 5, 7]
    assert build_model(make_config(config)).arguments() == {"scale": 4, "width": 7}


def test_a_forward_that_asks_for_the_scale_gets_it(nets: str) -> None:
    assert build_model(make_config({"model": f"{nets}:Asked", "scale": 3}))(torch.zeros(1, 3, 2, 2)).shape[2:] == (6, 6)


def test_a_network_of_the_range_255_is_called_in_it_prepared_or_not(nets: str) -> None:
    config = {"model": f"{nets}:Bytes", "scale": 2, "rgb_range": 255}
    network = build_model(make_config(config)).eval()
    pixels = torch.randint(0, 256, (1, 3, 6, 7)).float()
    with torch.no_grad():
        expected = network.network(pixels) / 255
        assert network(pixels / 255).allclose(expected, atol=1e-6) and network.network(pixels).mean() > 200
        assert prepare(network)(pixels / 255).equal(network(pixels / 255))
    assert torch.equal(torch.arange(256) / 255 * 255, torch.arange(256.0)), "it gets the very pixels"


@pytest.mark.parametrize(
    "wrong", [{"rgb_range": 255}, {"model": "a:B", "rgb_range": 256}, {"model": "any", "rgb_range": 255}]
)
def test_another_range_is_for_models_of_ones_own(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"key 'rgb_range': expected 1\.0.*255: a model of your own"):
        make_config(wrong)


def test_it_takes_the_place_of_the_network_of_a_shipped_config(nets: str) -> None:
    """What describes ours in the file says nothing then; what stands beside the model is still checked."""
    config = load_config("SSUFSR_light_x2", [f"model={nets}:By_sf", "model_args={width: 9}"])
    assert build_model(config).network.width == 9 and config.training_dataset == "df2k"
    assert load_config("idsa_light_x3", [f"model={nets}:By_sf"]).scale == 3
    with pytest.raises(ConfigError, match="does not take n_feats=48"):
        load_config("SSUFSR_light_x2", [f"model={nets}:By_sf", "n_feats=48"])

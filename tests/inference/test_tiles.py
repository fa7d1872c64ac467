"""Tiles and the self-ensemble against the whole image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import photo
from torch import nn
from torch.nn import functional as F

from ssiu.errors import DeviceMemoryError
from ssiu.inference import tiles
from ssiu.inference.prepare import PreparedNetwork, prepare
from ssiu.inference.tiles import super_resolve
from ssiu.models import SSIU
from ssiu.models.base import SRNetwork
from ssiu.weights.load import load_model


class Windows(SRNetwork):
    """Pads to multiples of 4, mixes inside 4x4 windows and a 5x5 neighbourhood, upscales by 2: receptive field < 10."""

    size_multiple = 4

    def __init__(self):
        super().__init__(2)
        self.conv = nn.Conv2d(3, 3, 5, padding=2, padding_mode="zeros").double()
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        x = x + F.interpolate(F.avg_pool2d(x, 4), scale_factor=4)
        return F.interpolate(self.conv(x), scale_factor=2)[..., : 2 * height, : 2 * width]


class Doubling(SRNetwork):
    """An upscaler that commutes with flips and rotations."""

    def __init__(self):
        super().__init__(2)
        self.calls = []

    def forward(self, x):
        self.calls.append(x.clone())
        return F.interpolate(x, scale_factor=2, mode="bilinear")


def upscale(network, *arguments, **options):
    return super_resolve(PreparedNetwork.of(network), *arguments, **options)


def _image(height, width, batch=1, seed=0):
    return torch.rand(batch, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 90), width=st.integers(1, 90), tile=st.integers(1, 60))
def test_tiles_equal_the_whole_image_where_the_margin_covers_the_receptive_field(height, width, tile):
    torch.manual_seed(0)
    network = Windows()
    lr = _image(height, width)
    torch.testing.assert_close(upscale(network, lr, tile), upscale(network, lr), rtol=0, atol=1e-12)


@pytest.mark.parametrize("height, width", [(1, 100), (100, 1), (97, 130), (64, 64)])
def test_every_tile_starts_at_a_whole_window_and_none_is_larger_than_asked(height, width):
    network = Windows()
    upscale(network, _image(height, width, batch=2), tile=30)  # rounded up to 32
    assert len(network.calls) == -(-height // 32) * -(-width // 32)
    assert all(call[0] == 2 and max(call[2:]) <= 32 + 2 * tiles.MARGIN for call in network.calls)


@pytest.mark.slow
@pytest.mark.parametrize("form", [PreparedNetwork.of, prepare])
@pytest.mark.parametrize("self_ensemble", [False, True])
def test_tiles_of_ssiu_equal_the_whole_image_on_all_sides(form, self_ensemble):
    torch.manual_seed(0)
    network = form(SSIU(2, n_feats=8, num_heads=2, n_blocks=3).eval())
    lr = _image(97, 75).float()
    whole = super_resolve(network, lr, 0, self_ensemble)
    assert (super_resolve(network, lr, 16, self_ensemble) - whole).abs().max() < 2e-5
    plain = torch.rand_like(lr)
    assert (super_resolve(network, plain, 16, self_ensemble) - whole).abs().max() > 0.05, "another image is another"


def test_tiles_of_the_released_network_are_the_whole_image_to_a_level():
    network = prepare(load_model(4, "cpu"))
    lr = torch.from_numpy(photo("coffee", 150, 128)).permute(2, 0, 1)[None] / 255
    whole, tiled = super_resolve(network, lr), super_resolve(network, lr, tile=64)
    assert (whole - tiled).abs().max() < 1 / 255  # 2.5 / 255 without the offset


@pytest.mark.parametrize("height, width", [(1, 1), (1, 23), (23, 1), (17, 40)])
@pytest.mark.parametrize("tile", [0, 16, "auto"])
def test_any_size_gives_exactly_scale_times_it(height, width, tile):
    network = PreparedNetwork.of(SSIU(3, n_feats=8, num_heads=2, n_blocks=3).eval())
    for self_ensemble in (False, True):
        sr = super_resolve(network, _image(height, width).float(), tile, self_ensemble)
        assert sr.shape == (1, 3, 3 * height, 3 * width)
        assert sr.isfinite().all()


def test_self_ensemble_sees_the_eight_symmetries_once_each_and_undoes_them():
    network = Doubling()
    lr = _image(5, 7)
    sr = upscale(network, lr, self_ensemble=True)
    torch.testing.assert_close(sr.double(), F.interpolate(lr, scale_factor=2, mode="bilinear"), rtol=0, atol=1e-6)
    seen = {(tuple(x.shape), x.numpy().tobytes()) for x in network.calls}
    expected = set()
    for flipped in (lr, lr.flip(-1)):
        for turned in (flipped, flipped.transpose(-1, -2), flipped.flip(-2), flipped.flip(-2).transpose(-1, -2)):
            expected.add((tuple(turned.shape), turned.contiguous().numpy().tobytes()))
    assert len(network.calls) == 8
    assert seen == expected


def test_self_ensemble_of_tiles_is_the_self_ensemble_of_the_whole():
    network = Windows()
    lr = _image(50, 44)
    whole = upscale(network, lr, self_ensemble=True)
    torch.testing.assert_close(upscale(network, lr, 16, self_ensemble=True), whole, rtol=0, atol=1e-6)
    assert not torch.allclose(whole.double(), upscale(network, lr), atol=1e-3), "it must change the output"


def _leave_free(monkeypatch, usable):
    monkeypatch.setattr(tiles, "free_memory", lambda device: usable / tiles.RAM_SHARE + 1)


def test_auto_takes_the_whole_image_within_the_budget_and_tiles_beyond(monkeypatch):
    _leave_free(monkeypatch, Windows.bytes_per_lr_pixel * 200 * 200)
    network = Windows()
    upscale(network, _image(200, 200), "auto")
    assert network.calls == [(1, 3, 200, 200)]
    network.calls.clear()
    upscale(network, _image(200, 280), "auto")
    assert len(network.calls) > 1
    assert max(np.prod(call[2:]) for call in network.calls) <= 200 * 200
    network.calls.clear()
    upscale(network, _image(200, 200, batch=2), "auto")
    assert len(network.calls) > 1


def test_auto_takes_the_networks_word_for_its_memory_and_the_tiles_that_see_least(monkeypatch):
    _leave_free(monkeypatch, 1000 * 100 * 100)
    network = Windows()
    network.bytes_per_lr_pixel = 1000
    upscale(network, _image(100, 100), "auto")
    assert network.calls == [(1, 3, 100, 100)]
    network.calls.clear()
    upscale(network, _image(40, 256), "auto")  # 10,240 pixels: one cut across the longer side
    assert [call[2:] for call in network.calls] == [(40, 176)] * 2
    network.calls.clear()
    upscale(network, _image(300, 40), "auto")
    assert [call[2:] for call in network.calls] == [(152 + tiles.MARGIN, 40), (148 + tiles.MARGIN, 40)]


class Hungry(Windows):
    """Fails as a device does on more than ``limit`` pixels."""

    limit = 150 * 100

    def forward(self, x):
        if x.shape[-1] * x.shape[-2] > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


def test_auto_goes_on_with_smaller_tiles_when_memory_runs_out(caplog):
    network = Hungry()
    lr = _image(200, 100)
    torch.testing.assert_close(upscale(network, lr, "auto"), Windows.forward(network, lr), rtol=0, atol=1e-12)
    assert "continuing with tiles" in caplog.text
    network.limit = 10
    with pytest.raises(DeviceMemoryError, match="another device"):
        upscale(network, lr, "auto")


@pytest.mark.parametrize("tile", [0, 64])
def test_a_tile_that_was_asked_for_is_not_changed_behind_the_users_back(tile):
    with pytest.raises(DeviceMemoryError, match=r"140x150 image and tile=.*tile=auto"):
        upscale(Hungry(), _image(150, 140), tile)


def test_other_errors_of_the_network_pass_through():
    def broken(lr):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        super_resolve(PreparedNetwork(broken), _image(4, 4), "auto")

"""Local attribution maps: completeness, the receptive field, the diffusion index."""

import numpy as np
import pytest
import torch
from small_sets import photo
from torch import nn

from ssiu.errors import BadInputError
from ssiu.evaluation.lam import Attribution, attribute, blurred
from ssiu.models import SSIU
from ssiu.weights.load import load_model


def _image(height=24, width=30):
    torch.manual_seed(1)
    clean = torch.from_numpy(photo("coffee", height, width)).permute(2, 0, 1)[None].float() / 255
    return clean + 0.2 * torch.rand_like(clean)


def _convolutions(reach):
    """Upscales by 2; an SR pixel depends on the LR pixels at most ``reach`` rows and columns from its own."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 12, 3, padding=1), nn.Tanh()]
    for _ in range(reach - 1):
        layers += [nn.Conv2d(12, 12, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers, nn.PixelShuffle(2))


@pytest.mark.parametrize("reach", [1, 2])
def test_pixels_outside_the_receptive_field_get_exactly_nothing(reach):
    network = _convolutions(reach)
    found = attribute(network, _image(), (20, 16, 8, 6), steps=5)  # LR columns 10..13, rows 8..10
    field = np.zeros((24, 30), bool)
    field[8 - reach : 11 + reach, 10 - reach : 14 + reach] = True
    assert (found.values[~field] == 0).all()
    assert (found.values[field] != 0).mean() > 0.9


@pytest.mark.parametrize("box", [(20, 16, 8, 6), (0, 0, 60, 48), (58, 46, 2, 2)])
def test_attributions_add_up_to_the_change_of_the_structure(box):
    assert attribute(_convolutions(2), _image(), box).error < 0.05


def test_attributions_of_ssiu_add_up():
    torch.manual_seed(0)
    network = SSIU(2, n_feats=8, num_heads=2, n_blocks=3).eval()
    few, many = (attribute(network, _image(), (16, 16, 16, 16), steps) for steps in (1, 20))
    assert many.error < min(0.05, few.error)
    assert many.values.shape == (24, 30)
    assert few.change == many.change != 0


def test_blur_repeats_the_border_and_ends_at_the_image_itself():
    flat = torch.full((1, 3, 5, 40), 0.25)
    torch.testing.assert_close(blurred(flat, 2.0), flat)
    image = _image()
    assert blurred(image, 0.0) is image
    torch.testing.assert_close(blurred(image, 0.06), image, rtol=0, atol=1e-5)
    assert blurred(image, 2.0).diff().std() < 0.3 * image.diff().std()
    dot = torch.zeros(1, 3, 21, 21)
    dot[..., 10, 10] = 1
    spread = blurred(dot, 1.5)[0, 0].numpy()
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(spread, spread.T, atol=1e-7)
    variance = ((np.arange(21) - 10) ** 2 * spread.sum(0)).sum()
    assert variance == pytest.approx(1.5**2, rel=0.01)


def test_diffusion_index_runs_from_one_pixel_to_all_alike():
    one = np.zeros((10, 10))
    one[3, 4] = -2
    assert Attribution(one, 1.0).diffusion_index == pytest.approx(1)  # 100 / number of pixels
    assert Attribution(np.full((10, 10), 0.3), 1.0).diffusion_index == pytest.approx(100)
    half = np.zeros((10, 10))
    half[:5] = 1
    assert Attribution(half, 1.0).diffusion_index == pytest.approx(50)


@pytest.mark.parametrize("box", [(-1, 0, 8, 8), (0, 0, 61, 8), (55, 0, 8, 8), (0, 0, 8, 1)])
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(BadInputError, match=r"does not lie in the 60x48 SR image"):
        attribute(_convolutions(1), _image(), box)


def test_a_box_without_structure_is_refused():
    with pytest.raises(BadInputError, match="nothing to attribute"):
        attribute(nn.Upsample(scale_factor=2), torch.full((1, 3, 8, 8), 0.5), (4, 4, 4, 4))
    flat = torch.tensor([90, 20, 128])[None, :, None, None].expand(1, 3, 11, 14) / 255
    with pytest.raises(BadInputError, match="nothing to attribute"):  # the change is rounding, and not 0
        attribute(load_model(2), flat, (10, 8, 4, 4))

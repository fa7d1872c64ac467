"""Eq. 21 against its definition."""

import pytest
import torch

from ssiu.training.losses import SRLoss, fft_l1, total_loss


def test_fft_loss_is_the_mean_over_real_and_imaginary_parts():
    sr, hr = torch.rand(2, 3, 12, 10, dtype=torch.float64), torch.rand(2, 3, 12, 10, dtype=torch.float64)
    a, b = torch.fft.rfft2(sr), torch.fft.rfft2(hr)
    expected = torch.cat([(a.real - b.real).abs().flatten(), (a.imag - b.imag).abs().flatten()]).mean()
    assert torch.allclose(fft_l1(sr, hr), expected, rtol=1e-12)


def test_total_is_the_weighted_sum():
    sr, hr = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    terms = SRLoss(0.5, 0.02)(sr, hr)
    assert terms["l1"] == pytest.approx(0.5 * (sr - hr).abs().mean())
    assert terms["fft"] == pytest.approx(0.02 * fft_l1(sr, hr))
    assert total_loss(terms) == terms["l1"] + terms["fft"]


def test_a_constant_error_reaches_only_the_mean_coefficient():
    hr = torch.zeros(1, 3, 16, 16)
    assert fft_l1(hr + 0.5, hr) == pytest.approx(0.5 * 16 * 16 / (16 * 9 * 2))


@pytest.mark.parametrize(("weights", "name"), [((1.0, 0.0), "l1"), ((0.0, 0.01), "fft")])
def test_a_weight_of_zero_leaves_its_term_out(weights, name):
    terms = SRLoss(*weights)(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    assert list(terms) == [name] and total_loss(terms) == terms[name] > 0


def test_half_precision_outputs_are_compared_in_float32():
    hr = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        terms = SRLoss()(hr.bfloat16(), hr)
    assert {name: term.dtype for name, term in terms.items()} == {"l1": torch.float32, "fft": torch.float32}

"""Each loss against its definition, and any weighted sum of them, named in a config."""

import json
from pathlib import Path

import pytest
import torch
from tiny_run import tiny_config, trainer
from torch import Tensor

from ssiu.config.load import load_config, make_config
from ssiu.config.schema import LOSSES as NAMES
from ssiu.errors import ConfigError
from ssiu.training.losses import LOSSES, SRLoss, build_loss, total_loss
from ssiu.training.trainer import Trainer


def pair(side: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 3, side, side - 2, dtype=dtype), torch.rand(2, 3, side, side - 2, dtype=dtype)


# against the definitions


def term(name: str, sr: Tensor, hr: Tensor, **arguments: object) -> Tensor:
    return SRLoss({name: {"weight": 1.0, **arguments}})(sr, hr)[name]


def test_the_config_knows_the_names_of_all_losses():
    assert list(NAMES) == list(LOSSES)


def test_fft_loss_is_the_mean_over_real_and_imaginary_parts():
    sr, hr = pair()
    a, b = torch.fft.rfft2(sr), torch.fft.rfft2(hr)
    expected = torch.cat([(a.real - b.real).abs().flatten(), (a.imag - b.imag).abs().flatten()]).mean()
    assert torch.allclose(term("fft", sr, hr), expected, rtol=1e-12)


def test_a_constant_error_reaches_only_the_mean_coefficient_of_the_fft():
    hr = torch.zeros(1, 3, 16, 16)
    assert term("fft", hr + 0.5, hr) == pytest.approx(0.5 * 16 * 16 / (16 * 9 * 2))


def test_pixel_losses():
    sr, hr = pair()
    d = sr - hr
    assert term("l1", sr, hr).item() == pytest.approx(d.abs().mean().item(), rel=1e-12)
    assert term("mse", sr, hr).item() == pytest.approx((d * d).mean().item(), rel=1e-12)
    for eps in (1e-3, 0.5):
        expected = (d * d + eps * eps).sqrt().mean().item()
        assert term("charbonnier", sr, hr, eps=eps).item() == pytest.approx(expected, rel=1e-12)


def test_ssim_loss_is_one_minus_the_mean_over_windows_written_out():
    sr, hr = pair(14)
    line = torch.exp(-((torch.arange(11.0).double() - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    found = []
    for x, y in zip(sr.flatten(0, 1), hr.flatten(0, 1), strict=True):
        for top in range(4):
            for left in range(2):
                a, b = (image[top : top + 11, left : left + 11] for image in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
                covariance = (window * a * b).sum() - mean_a * mean_b
                c1, c2 = 0.01**2, 0.03**2
                found.append((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1))
                found[-1] *= (2 * covariance + c2) / (var_a + var_b + c2)
    assert term("ssim", sr, hr).item() == pytest.approx(1 - torch.stack(found).mean().item(), rel=1e-5)
    assert term("ssim", hr, hr) == pytest.approx(0, abs=1e-6)


def test_gradient_loss_is_the_mean_over_sobels_two_derivatives_written_out():
    sr, hr = pair()

    def derivative(x: Tensor) -> Tensor:
        """From left to right, of each three rows: the one in the middle twice."""
        slope = x[..., :-2] - x[..., 2:]
        return slope[..., :-2, :] + 2 * slope[..., 1:-1, :] + slope[..., 2:, :]

    expected = torch.stack([derivative(sr - hr).abs().mean(), derivative((sr - hr).mT).abs().mean()]).mean()
    assert term("gradient", sr, hr).item() == pytest.approx(expected.item(), rel=1e-12)
    assert term("gradient", hr + 0.3, hr) == pytest.approx(0, abs=1e-12)


# their sum


def test_terms_are_weighted_and_their_sum_is_minimised():
    sr, hr = pair()
    terms = SRLoss({"l1": 0.5, "fft": 0.02, "mse": 0, "charbonnier": {"weight": 2.0, "eps": 0.1}})(sr, hr)
    assert list(terms) == ["l1", "fft", "charbonnier"], "a weight of 0 leaves its term out"
    for name, weight, arguments in (("l1", 0.5, {}), ("fft", 0.02, {}), ("charbonnier", 2.0, {"eps": 0.1})):
        assert terms[name] == weight * term(name, sr, hr, **arguments)
    assert total_loss(terms) == pytest.approx(sum(map(float, terms.values())), rel=1e-12)


@pytest.mark.parametrize(
    ("keys", "names"),
    [({}, ["l1", "fft"]), ({"lambda_fft": 0}, ["l1"]), ({"lambda_l1": 0}, ["fft"]), ({"losses": {"mse": 1}}, ["mse"])],
    ids=str,
)
def test_a_config_says_the_loss_in_either_spelling(keys, names):
    assert list(build_loss(make_config(keys))(*pair())) == names
    again = make_config(make_config(keys).model_dump(mode="json"))
    assert list(build_loss(again)(*pair())) == names, "what a run saves of its config says the same"


def test_half_precision_outputs_are_compared_in_float32():
    hr = torch.rand(1, 3, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        terms = SRLoss(dict.fromkeys(LOSSES, 1.0))(hr.bfloat16(), hr)
    assert {term.dtype for term in terms.values()} == {torch.float32} and len(terms) == 6


# in a config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"losses": {"l2": 1.0}}, r"'losses': expected names of losses \(l1, fft, charbonnier, mse, ssim, gradient"),
        ({"losses": {"l1": -1.0}}, "a weight from 0 for l1"),
        ({"losses": {"charbonnier": {"eps": 1e-3}}}, r"a weight from 0 for charbonnier, such as .*weight: 0.1"),
        ({"losses": {"l1": {"weight": True}}}, "a weight from 0 for l1"),
        ({"losses": {}}, "nothing to minimise"),
        ({"losses": {"l1": 0.0}}, "nothing to minimise"),
        ({"lambda_l1": 0, "lambda_fft": 0}, "nothing to minimise"),
        ({"losses": {"l1": 1.0}, "lambda_l1": 1.0}, "losses, and lambda_l1 or lambda_fft, both say"),
        ({"losses": {"l1": 1.0}, "lambda_fft": 0.01}, "losses, and lambda_l1 or lambda_fft, both say"),
        ({"losses": {"a:Loss": 1.0, "b:Loss": 1.0}}, "classes of different names"),
    ],
    ids=str,
)
def test_a_mistake_in_the_loss_is_named(keys, message):
    with pytest.raises(ConfigError, match=message):
        make_config(keys)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"charbonnier": {"weight": 1, "size": 3}}, "losses charbonnier cannot be built with .*'size'"),
        ({"ssim": 1}, r"losses ssim fails on patches \(1, 3, 8, 8\): .*patches of 11x11 or more"),
        ({"torch.nn:CrossEntropyLoss": {"weight": 1, "reduction": "none"}}, r"makes a tensor \(1, 8, 8\) of SR and HR"),
        ({"torch.nn:Loss": 1}, "losses torch.nn:Loss: .*has no class Loss"),
        ({"nowhere.at_all:Loss": 1}, "losses nowhere.at_all:Loss: there is no module 'nowhere'"),
    ],
    ids=str,
)
def test_a_loss_that_does_not_work_is_named_before_step_one(losses, message):
    with pytest.raises(ConfigError, match=message):
        build_loss(make_config({"losses": losses, "patch_size": 8}))


def test_the_command_line_says_another_loss_than_a_file(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text("lambda_l1: 1.0\nlambda_fft: 0.01\n")
    config = load_config(path, ["losses={charbonnier: {weight: 0.5, eps: 1e-6}, torch.nn:SmoothL1Loss: 2}"])
    terms = build_loss(config)(*pair())
    assert list(terms) == ["charbonnier", "SmoothL1Loss"]
    with pytest.raises(ConfigError, match="both say what is minimised"):
        load_config(path, ["losses={l1: 1}", "lambda_fft=0.5"])


# in a run

OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, power):
        super().__init__()
        self.power, self.net = power, nn.Conv2d(3, 4, 3)  # drawn at random, and never trained
    def forward(self, sr, hr):
        return (self.net(sr) - self.net(hr)).abs().pow(self.power).mean()
"""


def end(run: Trainer) -> Tensor:
    run.run()
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


def test_a_loss_of_ones_own_beside_others_is_trained_logged_and_resumed(folder: Path) -> None:
    (folder / "my_loss.py").write_text(OWN)
    losses = {"l1": 1.0, f"{folder}/my_loss.py:Own": {"weight": 0.3, "power": 2}}
    whole = trainer(folder, losses=losses, max_iterations=4)
    alone = end(trainer(folder, losses={"l1": 1.0}, max_iterations=4))
    expected = end(whole)
    assert not torch.equal(expected, alone)
    line = json.loads((whole.config.run_folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["loss"] == pytest.approx(line["l1"] + line["Own"]) and line["Own"] > 0
    assert f"l1 {line['l1']:.5f}  Own {line['Own']:.5f}" in (whole.config.run_folder / "log.txt").read_text()
    half = whole.config.run_folder / "models/step_00000002.pt"
    config = tiny_config(folder, log_name="own", losses=losses, max_iterations=4)
    assert torch.equal(end(Trainer(config, str(half))), expected)


@pytest.mark.parametrize("spelling", [{"lambda_fft": 0.05}, {"losses": {"l1": 1.0, "fft": 0.05}}], ids=str)
def test_a_checkpoint_of_either_spelling_resumes_in_the_other(folder: Path, spelling: dict) -> None:
    run = trainer(folder, max_iterations=4, **spelling)
    expected = end(run)
    half = str(run.config.run_folder / "models/step_00000002.pt")
    name = "-".join(spelling)
    for other in ({"lambda_fft": 0.05}, {"losses": {"fft": 0.05, "l1": 1}}):
        config = tiny_config(folder, log_name=f"{name}-{'-'.join(other)}", max_iterations=4, **other)
        assert torch.equal(end(Trainer(config, half)), expected)
    changed = tiny_config(folder, log_name=f"{name}-changed", max_iterations=4, losses={"l1": 1.0})
    with pytest.raises(ConfigError, match=r"losses: .*'fft': 0.05.* -> \{'l1': 1.0\}"):
        Trainer(changed, half)
    assert Trainer(changed, half, allow_changes=True).step == 2

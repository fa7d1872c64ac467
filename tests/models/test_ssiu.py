"""SSIU against the paper's counts and the released implementation's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ssiu.config.schema import Config
from ssiu.errors import ConfigError
from ssiu.models import build_model, layers
from ssiu.models.esam import ESAM
from ssiu.models.moe_fs import MoEFS
from ssiu.models.msgm import MSGM
from ssiu.models.ssiu import SSIU, from_authors, to_authors
from ssiu.models.tile_upsampling import upsample_tile, upsampling_weights

TINY = dict(n_feats=8, num_heads=4, n_blocks=3)
VARIANTS = [
    dict(),
    dict(attention="dense"),
    dict(moe=False),
    dict(beta_sign="plus"),
    dict(skip="raw"),
]


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def released(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"official_{name}.pt", weights_only=True)["model_state_dict"]


def loaded(state_dict: dict[str, torch.Tensor]) -> SSIU:
    state_dict = from_authors(state_dict)
    model = SSIU(**SSIU.arguments_from(state_dict))
    model.load_state_dict(state_dict)
    return model.eval()


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (dict(scale=2), 777_827),
        (dict(scale=3), 798_627),
        (dict(scale=4), 794_467),
        (dict(scale=4, attention="dense"), 788_707),
        (dict(scale=4, moe=False), 777_827),
    ],
)
def test_parameter_counts_are_the_papers(arguments, parameters):
    with torch.device("meta"):
        assert count(SSIU(**arguments)) == parameters


def test_module_parameter_counts():
    assert (count(MSGM(64)), count(ESAM(64, 4)), count(MoEFS(64))) == (17_280, 13_088, 16_640)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiny_network_gives_the_released_implementations_output(reference, scale):
    model = loaded(released(reference, f"tiny_x{scale}"))
    golden = np.load(reference / f"forward_tiny_x{scale}.npz")
    for size in ("32x48", "21x29", "16x17"):
        with torch.inference_mode():
            sr = model(torch.from_numpy(golden[f"in_{size}"]))
        assert np.abs(sr.numpy() - golden[f"out_{size}"]).max() <= 2e-6


def test_full_network_gives_the_released_implementations_output(shared):
    weights = released(shared / "reference", "x4")
    assert len(weights) == 439
    golden = np.load(shared / "reference" / "forward_x4.npz")
    with torch.inference_mode():
        sr = loaded(weights)(torch.from_numpy(golden["in_24x40"]))
    assert np.abs(sr.numpy() - golden["out_24x40"]).max() <= 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_any_image_size_gives_exactly_scale_times_it(scale):
    model = SSIU(scale, **TINY).eval()
    for side in range(1, 34):
        for height, width in {(side, side), (side, 34 - side)}:
            with torch.inference_mode():
                sr = model(torch.rand(1, 3, height, width))
            assert sr.shape == (1, 3, scale * height, scale * width)
            assert sr.isfinite().all()


@pytest.mark.parametrize(
    "top, left, bottom, right", [(0, 0, 96, 80), (0, 16, 32, 80), (32, 16, 64, 48), (64, 48, 96, 80)]
)
def test_a_tile_is_upsampled_as_in_its_whole_map(top, left, bottom, right):
    whole = torch.randn(2, 3, 48, 40)  # of an image of 90x75, padded to 96x80 and halved
    part = whole[:, :, top // 2 : bottom // 2, left // 2 : right // 2]
    tile_offset = torch.tensor([top, left, 90, 75], dtype=torch.int32)
    found = upsample_tile(part, *upsampling_weights(tile_offset, *part.shape[2:], 16))
    expected = layers.upsample_bilinear(whole, 2, align_corners=True)[:, :, top:bottom, left:right]
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], rtol=0, atol=1e-4)
    if part.shape == whole.shape:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant):
    torch.manual_seed(0)
    model = SSIU(2, **TINY, **variant)
    model(torch.rand(2, 3, 16, 32)).square().sum().backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_each_switch_changes_the_output():
    lr = torch.rand(1, 3, 16, 16)
    outputs = []
    for variant in VARIANTS:
        torch.manual_seed(0)
        outputs.append(SSIU(2, **TINY, **variant)(lr).detach())
    assert len({output.sum().item() for output in outputs}) == len(VARIANTS)


def test_positions_start_standard_normal():
    rel = torch.cat([ESAM(1024, 4).rel_h.flatten(), ESAM(1024, 4).rel_w.flatten()])
    assert abs(rel.mean()) < 0.1
    assert abs(rel.std() - 1) < 0.1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_authors_names_there_and_back_are_bit_equal_and_in_order(reference, scale):
    theirs = released(reference, f"tiny_x{scale}")
    back = to_authors(loaded(theirs).state_dict())
    assert list(back) == list(theirs)  # the optimizer's state is stored by position
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("variant", VARIANTS[:3])
def test_arguments_are_read_from_weights(scale, variant):
    model = SSIU(scale, **TINY, **variant)
    read = SSIU.arguments_from(model.state_dict())
    assert model.arguments() == {**read, "beta_sign": "minus", "skip": "norm"}


def test_foreign_weights_are_not_ssius():
    assert SSIU.arguments_from({}) is None
    assert SSIU.arguments_from(torch.nn.Conv2d(3, 8, 3).state_dict(prefix="head.")) is None


def test_arguments_rebuild_the_network():
    model = SSIU(3, **TINY, attention="dense", moe=False, beta_sign="plus", skip="raw")
    again = SSIU(**model.arguments())
    again.load_state_dict(model.state_dict())
    lr = torch.rand(1, 3, 9, 7)
    assert torch.equal(model(lr), again(lr))


@pytest.mark.parametrize("name", ["SSIU", "SSUFSR"])
def test_config_keys_reach_the_network(name):
    keys = dict(scale=2, **TINY, attention="dense", moe=False, beta_sign="plus", skip="raw")
    assert build_model(Config(model=name, **keys)).arguments() == keys


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (dict(scale=5), "scale"),
        (dict(n_blocks=4), "n_blocks"),
        (dict(n_blocks=0), "n_blocks"),
        (dict(n_feats=60, num_heads=4), "n_feats"),
        (dict(num_heads=0), "n_feats"),
        (dict(attention="full"), "attention"),
        (dict(beta_sign="+"), "beta_sign"),
        (dict(skip="none"), "skip"),
    ],
)
def test_bad_arguments_name_the_key(arguments, named):
    with pytest.raises(ConfigError, match=rf"^{named}: expected .*, got "):
        SSIU(**arguments)

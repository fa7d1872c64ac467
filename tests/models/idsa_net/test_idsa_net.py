"""IDSA-Net against its specification: counts, modules, switches, and the interface every model has."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ssiu.config.load import load_config
from ssiu.config.schema import Config
from ssiu.errors import ConfigError
from ssiu.inference.prepare import PreparedNetwork, prepare
from ssiu.inference.tiles import super_resolve
from ssiu.models import build_model
from ssiu.models.idsa_net import network as idsa_net
from ssiu.models.idsa_net.network import ASDB, INHAM, LKCIPM, IDSANet

CONFIGS = Path(__file__).parents[3] / "configs"
TINY = dict(n_feats=16, num_heads=2, n_blocks=3)
WITHOUT = {LKCIPM: dict(purification="none"), INHAM: dict(hybrid_attention="none")}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_on_meta(**arguments) -> int:
    with torch.device("meta"):
        return count(IDSANet(**arguments))


@pytest.mark.parametrize(("scale", "parameters"), [(2, 733_403), (3, 754_203), (4, 750_043)])
def test_parameter_counts_are_the_specifications(scale, parameters):
    assert count_on_meta(scale=scale) == parameters


@pytest.mark.parametrize(("share_group", "parameters"), [(0, 750_043), (7, 750_043), (4, 761_059), (1, 816_139)])
def test_each_group_of_blocks_adds_one_source(share_group, parameters):
    assert count_on_meta(share_group=share_group) == parameters


def test_without_sharing_a_sixth_more_parameters_and_a_fifth_more_work():
    config = load_config(CONFIGS / "idsa_light_x4.yml", ["share_group=none"])
    model = build_model(config)
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 180, 320))
    assert count(model) == 877_179
    assert counter.get_total_flops() / 2e9 == pytest.approx(58.8, abs=0.05)


def test_module_parameter_counts():
    with torch.device("meta"):
        assert count(ASDB(64, 4, sources=0, sequence=True)) == 61_424
        assert count(ASDB(64, 4, sources=1, sequence=True)) == 72_440
        assert count(ASDB(64, 4, sources=3, sequence=True)) == 81_160
        assert (count(LKCIPM(64)), count(INHAM(64))) == (11_328, 15_296)


@pytest.mark.parametrize(
    ("scale", "size", "gmacs"), [(2, (360, 640), 170.89), (3, (240, 427), 79.92), (4, (180, 320), 48.77)]
)
def test_gmacs_for_a_720p_image(scale, size, gmacs):
    model = IDSANet(scale)
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, *size))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, abs=0.01)


def test_hybrid_attention_follows_its_formula_sample_by_sample():
    torch.manual_seed(0)
    module = INHAM(4).double()
    x = torch.rand(2, 4, 16, 8).double()
    rows = torch.stack([module.rows(sample.sum(2) / 8) for sample in x])[..., None]
    columns = torch.stack([module.columns(sample.sum(1) / 16) for sample in x])[:, :, None]
    c = x * rows * columns
    variance, mean = torch.var_mean(c, dim=(2, 3), correction=0, keepdim=True)
    m = module.pixels[1:]((c - mean) / (variance + 1e-5).sqrt())  # the affine part starts as the identity
    assert torch.allclose(module(x), x + c * m)


def test_residuals_around_blocks_and_trunk():
    model = IDSANet(2, **TINY).eval()
    lr = torch.rand(1, 3, 8, 16)
    with torch.no_grad():
        for layer in (*(block.end for block in model.blocks), model.body_end[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
        f = torch.rand(1, 16, 8, 16)
        assert model.blocks[0](f, (None, None))[0].equal(f)
        enlarged = nn.functional.interpolate(lr, scale_factor=2, mode="bilinear")
        assert torch.allclose(model(lr), model.tail(model.head(lr)) + enlarged, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_untrained_network_starts_near_the_bilinear_image(scale):
    torch.manual_seed(0)
    lr = torch.rand(1, 3, 24, 20)  # padded to 24x24
    enlarged = nn.functional.interpolate(lr, scale_factor=scale, mode="bilinear")
    with torch.no_grad():
        sr = IDSANet(scale)(lr)
    inner = (..., slice(0, 16 * scale), slice(0, 16 * scale))  # away from the padding, which bilinear upsampling sees
    assert 0 < (sr - enlarged)[inner].abs().mean() < 0.25 * enlarged.std()


def test_an_image_is_not_lost_in_constants_at_the_start():
    """What varies over the image, beside what is the same everywhere, in every map that a module hands on."""
    torch.manual_seed(0)
    model, shares = IDSANet(2, n_blocks=4), {}

    def record(name: str, x: torch.Tensor) -> None:
        shares[name] = (x.std(dim=(2, 3)).mean() / x.std()).item()

    for name, module in model.named_modules():
        if isinstance(module, (ASDB, LKCIPM, INHAM)):
            module.register_forward_hook(
                lambda _module, _inputs, out, name=name: record(name, out[0] if isinstance(out, tuple) else out)
            )
    with torch.no_grad():
        model(torch.rand(1, 3, 32, 32) * 0.2 + 0.5)
    assert len(shares) == 12
    assert min(shares.values()) > 0.15, shares


def branch_connectivity() -> float:
    """The share of (output, input) channel pairs that LKCIPM's branch connects, without its norm and LKA."""
    torch.manual_seed(0)
    module = LKCIPM(64)
    module.norm = nn.Identity()
    module.large_kernel.forward = torch.ones_like
    jacobian = torch.autograd.functional.jacobian(lambda z: (module(z) - z).flatten(), torch.rand(1, 64, 1, 1))
    return (jacobian.view(64, 64) != 0).float().mean().item()


def test_the_shuffle_lets_every_stream_reach_every_other(monkeypatch):
    assert branch_connectivity() == 1
    monkeypatch.setattr(idsa_net, "shuffle_channels", lambda x, groups: x)
    assert branch_connectivity() == 0.25


def test_large_kernel_sees_23_pixels():
    module = LKCIPM(8)
    z = torch.rand(1, 8, 31, 31, requires_grad=True)
    module.large_kernel(z)[0, :, 15, 15].sum().backward()
    rows = z.grad[0].abs().sum(dim=(0, 2)).nonzero()
    assert (rows.min(), rows.max()) == (15 - 11, 15 + 11)


def test_stages_distil_a_quarter_of_the_channels_each():
    block = ASDB(64, 4, sources=1, sequence=True)
    seen = []
    for stage in block.stages:
        stage.register_forward_hook(lambda _module, inputs, outputs: seen.append((inputs[0], outputs[0])))
    z, _ = block(torch.rand(1, 64, 8, 8), (None, None))
    assert [x.shape[1] for x, _ in seen] == [64, 48, 32]
    for i, (_, y) in enumerate(seen):
        assert z[:, 16 * i : 16 * i + 16].equal(y[:, :16])
    assert z[:, 48:].equal(seen[2][1][:, 16:])
    assert seen[1][0].equal(seen[0][1][:, 16:])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_any_image_size_gives_exactly_scale_times_it(scale):
    model = IDSANet(scale, **TINY).eval()
    for height, width in ((1, 1), (1, 40), (3, 2), (7, 9), (8, 8), (17, 16), (23, 5)):
        with torch.inference_mode():
            sr = model(torch.rand(1, 3, height, width))
        assert sr.shape == (1, 3, scale * height, scale * width)
        assert sr.isfinite().all()


def test_images_of_a_batch_do_not_see_each_other():
    model = IDSANet(2, **TINY).train()
    lr = torch.rand(2, 3, 16, 24)
    with torch.inference_mode():
        assert torch.allclose(model(lr)[1:], model(lr[1:]), atol=1e-6)


@pytest.mark.parametrize(
    "variant", [dict(), dict(smu="none"), dict(share_group=1), dict(share_group="none"), *WITHOUT.values()]
)
def test_every_parameter_gets_a_gradient(variant):
    torch.manual_seed(0)
    model = IDSANet(2, **TINY, **variant)
    model(torch.rand(2, 3, 16, 24)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_each_switch_changes_the_output():
    lr = torch.rand(1, 3, 16, 16)
    outputs = []
    sharing = [dict(share_group=group) for group in (0, 1, 2, "none")]
    for variant in (*sharing, dict(smu="none"), *WITHOUT.values()):
        torch.manual_seed(0)
        outputs.append(IDSANet(2, **TINY, **variant)(lr).sum().item())
    assert len(set(outputs)) == 7


@pytest.mark.parametrize(
    "variant",
    [dict(), dict(smu="none", share_group=2), dict(share_group=9), dict(share_group="none")]
    + [dict(n_blocks=1), dict(n_blocks=1, share_group="none"), *WITHOUT.values()],
)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_arguments_are_read_back_from_names_and_shapes(scale, variant):
    model = IDSANet(scale, **TINY | variant)
    assert IDSANet.arguments_from(model.state_dict()) == model.arguments()
    IDSANet(**model.arguments()).load_state_dict(model.state_dict())


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_block_without_a_module_hands_its_input_on(kind):
    model = IDSANet(2, **TINY, **WITHOUT[kind])
    assert not any(isinstance(module, kind) for module in model.modules())
    assert count_on_meta() - count_on_meta(**WITHOUT[kind]) == 7 * count(kind(64))
    f = torch.rand(1, 16, 8, 16)
    block = model.blocks[0]
    with torch.no_grad():
        x, _ = block.distil(block.norm(f), (None, None))
        for layer in (block.fuse, block.attend) if kind is LKCIPM else (block.purify, block.fuse):
            x = layer(x)
        assert torch.allclose(block(f, (None, None))[0], f + block.end(x), atol=1e-6)


def test_other_weights_are_not_taken_for_idsa_net():
    ssiu = build_model(Config(model="SSIU", n_feats=8, n_blocks=3))
    assert IDSANet.arguments_from(ssiu.state_dict()) is None
    assert type(ssiu).arguments_from(IDSANet(**TINY).state_dict()) is None


def test_only_the_tail_depends_on_the_scale():
    shapes = [{name: t.shape for name, t in IDSANet(scale, **TINY).state_dict().items()} for scale in (2, 4)]
    differ = {name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)}
    assert differ and all(name.startswith(IDSANet.tail_prefixes) for name in differ)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shipped_configs_build_the_specified_network(scale):
    config = load_config(CONFIGS / f"idsa_light_x{scale}.yml")
    with torch.device("meta"):
        model = build_model(config)
    assert type(model) is IDSANet
    assert model.arguments() == IDSANet(scale).arguments()
    assert config.patch_size == 64 * scale


def test_a_config_that_only_names_the_model_means_the_specified_network():
    with torch.device("meta"):
        assert build_model(Config(model="IDSANet", scale=3)).arguments() == IDSANet(3).arguments()
        assert build_model(Config()).arguments()["n_blocks"] == 9


@pytest.mark.parametrize("value", ["some", "-1", "1.5", ""])
def test_an_impossible_share_group_in_a_config_is_one_line(value):
    with pytest.raises(ConfigError, match="key 'share_group': expected 'none'") as error:
        load_config(CONFIGS / "idsa_light_x4.yml", [f"share_group={value}"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(scale=5), "scale"),
        (dict(n_feats=60), "n_feats: expected a multiple of 4 .* 16, got 60"),
        (dict(n_blocks=0), "n_blocks"),
        (dict(share_group=-1), "share_group"),
        (dict(share_group="some"), "share_group"),
        (dict(smu="mingru"), "smu"),
        (dict(purification="inham"), "purification: expected one of lkcipm, none, got inham"),
        (dict(hybrid_attention=None), "hybrid_attention"),
    ],
)
def test_impossible_arguments_are_named(arguments, says):
    with pytest.raises(ConfigError, match=says):
        IDSANet(**arguments)


def test_preparing_leaves_the_callers_model_as_it_is_and_keeps_the_weights_of_now():
    model, lr = IDSANet(scale=2, n_feats=16, n_blocks=2).eval(), torch.rand(1, 3, 17, 23)
    with torch.no_grad():
        expected = model(lr)
        prepared = prepare(model.train())
        assert model.training and all(module.training for module in model.modules())
        assert all(parameter.requires_grad for parameter in model.parameters())
        for parameter in model.parameters():
            parameter.mul_(2)
    assert (prepared(lr) - expected).abs().max() <= 1e-5


def test_prepared_network_gives_the_same_output_and_nearly_so_in_bfloat16():
    torch.manual_seed(0)
    model = IDSANet(2, **TINY).eval()
    lr = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        expected = model(lr)
    assert prepare(model)(lr).equal(expected)
    rounded = prepare(model, torch.bfloat16)(lr)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - expected).abs().max() < 0.05


def test_a_tile_does_not_see_what_the_whole_image_tells_the_network():
    torch.manual_seed(0)
    model = IDSANet(2, **TINY).eval()
    lr = torch.rand(1, 3, 16, 200)
    with torch.inference_mode():
        network = PreparedNetwork.of(model)
        whole, tiled = model(lr), super_resolve(network, lr, tile=16)
        assert (tiled - whole).abs().max() > 1e-4  # no margin mends it: means run over the image
        assert super_resolve(network, lr, tile=200).equal(whole)

"""Other methods' checkpoints through everything that takes weights; spandrel is the real one."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from external_networks import EXTERNAL, compact, external_file, spandrel, spandrel_network, written
from hostile import legacy
from rlfn import RLFN
from small_sets import photo, write_set
from tiny import equal, tiny
from torch import nn

from ssiu.cli import benchmark as benchmark_command
from ssiu.cli import export as export_command
from ssiu.cli import figures as figures_command
from ssiu.cli import test as test_command
from ssiu.cli import train as train_command
from ssiu.cli import upscale as upscale_command
from ssiu.config.load import load_config, make_config
from ssiu.data.test_sets import load_test_sets
from ssiu.errors import BadInputError, ConfigError, MissingInputError
from ssiu.evaluation.evaluate import evaluate, super_resolved
from ssiu.evaluation.lam import attribute
from ssiu.images.io import read_rgb, save_image
from ssiu.inference.complexity import count
from ssiu.inference.prepare import prepare
from ssiu.inference.tiles import super_resolve
from ssiu.inference.upscaler import Upscaler
from ssiu.models import MODELS
from ssiu.models.idsa_net.network import IDSANet
from ssiu.weights.external import ExternalNetwork, build_external
from ssiu.weights.formats import read_weights
from ssiu.weights.load import load_model

CONFIG = {2: "SSUFSR_light_x2", 3: "SSUFSR_light_x3", 4: "SSUFSR_light_x4"}


def one_image(root: Path, scale: int) -> Path:
    """Set5 of one image whose LR sides are multiples of nothing."""
    return write_set(root, "Set5", scale, {"coffee": photo("coffee", 18 * scale, 23 * scale)})


def through_spandrel(path: Path, lr: torch.Tensor) -> torch.Tensor:
    """spandrel's own loader and its own call, which clamps."""
    return spandrel.ModelLoader("cpu").load_from_file(path)(lr)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", EXTERNAL)
def test_an_architecture_is_recognised_scored_upscaled_and_counted(tmp_path: Path, name: str, scale: int) -> None:
    path = external_file(tmp_path, name, scale)
    model = load_model(path)
    assert isinstance(model, ExternalNetwork) and (model.architecture, model.scale) == (name, scale)
    config = make_config({"scale": scale, "data_path": str(one_image(tmp_path, scale)), "eval_sets": ["Set5"]})
    test_sets = load_test_sets(config)
    (image,) = super_resolved(model, test_sets)
    lr = torch.from_numpy(image.lr).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(image.sr[None].clamp(0, 1), through_spandrel(path, lr.clone()), rtol=0, atol=1e-5)
    assert np.isfinite(evaluate(model, test_sets).mean("Set5", "official").psnr)
    assert Upscaler(model)(image.lr[:9, :5]).shape == (9 * scale, 5 * scale, 3)
    counts = count(model, 18, 23)
    assert counts.macs[""] > 0 and counts.activations[""] > 0
    again = model(lr)
    torch.testing.assert_close(again[0], image.sr, rtol=0, atol=1e-6)  # counting has left nothing behind


@pytest.mark.parametrize(("name", "scale"), [("SAFMN", 2), ("OmniSR", 3), ("DITN", 4)])
def test_the_commands_take_it_by_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, name: str, scale: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = external_file(tmp_path, name, scale)
    one_image(tmp_path, scale)
    any_model = ["--config", CONFIG[scale], "model=any", f"pretrain={path}", "device=cpu"]
    test_command.main([*any_model, "eval_sets=Set5", "data_path=."])
    printed = capsys.readouterr().out
    assert f"{name} x{scale}, {path.name}" in printed
    summary = json.loads((tmp_path / f"results/{path.stem}/summary.json").read_text())
    parameters = sum(p.numel() for p in EXTERNAL[name](scale).parameters())
    assert (summary["model"], summary["scale"], summary["parameters"]) == (name, scale, parameters)
    assert summary["weights_sha256"] == read_weights(path).sha256 and summary["macs_1280x720"] > 0
    benchmark_command.main(["complexity", *any_model, "--size", "96", "96"])
    printed = capsys.readouterr().out
    assert f"{name} x{scale}: LR " in printed and f"{parameters:,}" in printed
    assert next(line for line in printed.splitlines() if line.startswith(f"{name} x{scale}  "))
    save_image(tmp_path / "cup.png", photo("coffee", 11, 19))
    assert upscale_command.main(["cup.png", "--output", "large.png", "--weights", str(path)]) == 0
    assert read_rgb(tmp_path / "large.png").shape == (11 * scale, 19 * scale, 3)


def test_it_is_timed_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written(tmp_path / "net.pth", compact(4))
    any_model = ["--config", CONFIG[4], "model=any", f"pretrain={path}", "device=cpu"]
    benchmark_command.main(["inference", *any_model, "--size", "16", "16", "--turns", "1"])
    printed = capsys.readouterr().out
    assert "RealESRGAN Compact x4" in printed and "eager-bf16" in printed and "prepared" not in printed
    benchmark_command.main(["complexity", *any_model, "--turns", "1"])
    row = capsys.readouterr().out.splitlines()[-2].split()
    assert row[:3] == ["RealESRGAN", "Compact", "x4"] and all(float(figure) > 0 for figure in row[3:])
    save_image(tmp_path / "lr.png", photo("coffee", 20, 24))
    lam = ["lam", f"A={path}", "--lr", str(tmp_path / "lr.png"), "--box", "8,8,16,16"]
    figures_command.main([*lam, "--output", str(tmp_path / "lam.png")])
    assert "A: diffusion index" in capsys.readouterr().out and (tmp_path / "lam.png").stat().st_size > 10_000


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 30), (16, 16)])
@pytest.mark.parametrize("name", ["CRAFT", "SAFMN", "RCAN"])  # multiples of 16; of 8; none, but it changes its input
def test_any_size_is_padded_as_it_asks_and_what_came_in_is_unchanged(
    tmp_path: Path, name: str, height: int, width: int
) -> None:
    path = external_file(tmp_path, name, 2)
    lr = torch.rand(2, 3, height, width)
    before = lr.clone()
    with torch.no_grad():
        sr = load_model(path)(lr)
    assert torch.equal(lr, before)
    expected = torch.cat([through_spandrel(path, image.clone()) for image in lr.split(1)])
    torch.testing.assert_close(sr.clamp(0, 1), expected, rtol=0, atol=1e-5)


def test_tiles_and_self_ensemble_work(tmp_path: Path) -> None:
    model = prepare(load_model(written(tmp_path / "net.pth", compact(3))))
    lr = torch.rand(1, 3, 70, 90)
    whole = super_resolve(model, lr)
    torch.testing.assert_close(super_resolve(model, lr, tile=20), whole, rtol=0, atol=1e-6)
    turned = super_resolve(model, lr, self_ensemble=True)
    assert turned.shape == whole.shape and not torch.equal(turned, whole)


def test_a_precision_that_an_architecture_does_not_offer_is_refused(tmp_path: Path) -> None:
    model = load_model(external_file(tmp_path, "SAFMN", 2))
    with pytest.raises(ConfigError, match=r"SAFMN cannot be computed in torch\.float16; use precision fp32"):
        Upscaler(model, precision="fp16")
    pixels = photo("coffee", 9, 9)
    difference = np.abs(Upscaler(model, precision="bf16")(pixels) - Upscaler(model)(pixels).astype(float))
    assert 0 < difference.max() < 30


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (lambda: compact(1), "holds RealESRGAN Compact, a network for Restoration; expected super-resolution"),
        (lambda: compact(2, channels=1), "holds RealESRGAN Compact from 1 channels to 1; expected one from RGB to RGB"),
        (
            lambda: nn.Linear(2, 2),
            r"fits none of SSIU.*begin with 'bias, weight'; spandrel \S+ does not know it either",
        ),
    ],
)
def test_other_networks_are_refused_in_a_line(tmp_path: Path, network, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason) as error:
        load_model(written(tmp_path / "net.pth", network()))
    assert "\n" not in str(error.value)


def test_another_scale_than_the_configs_is_refused(tmp_path: Path) -> None:
    path = external_file(tmp_path, "DITN", 3)
    with pytest.raises(BadInputError, match=r"DITN_x3\.pth upscales by 3, not 4"):
        benchmark_command.main(["complexity", "model=any", f"pretrain={path}"])


def test_tensors_that_do_not_fit_their_architecture_are_refused(tmp_path: Path) -> None:
    tensors = EXTERNAL["SAFMN"](2).state_dict()
    tensors.pop("feats.0.safm.aggr.bias")
    with pytest.raises(BadInputError, match=r"spandrel cannot build its network \(RuntimeError: .*SAFMN"):
        build_external(tensors, "file.pth")


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [
        ("SAFMN", "to_feat.weight", (50_000, 3, 3, 3)),  # makes the convolutions after it ask for gigabytes
        ("SAFMN", "to_feat.weight", (10_000_000, 3, 0, 3)),
        ("SwinIR", "relative_position_index", (48**2, 0)),  # the area of its windows, of which it takes the square
    ],
)
def test_a_network_is_not_made_far_larger_than_its_file(name: str, tensor: str, shape: tuple[int, ...]) -> None:
    tensors = EXTERNAL[name](2).state_dict()
    forged = {each: torch.zeros(shape) for each in tensors if each.endswith(tensor)}
    with pytest.raises(BadInputError, match="asks for a larger network than its tensors are"):
        build_external(tensors | forged, "file.pth")


def test_public_checkpoints_are_read(shared: Path) -> None:
    """Those that spandrel knows upscale; of the others a line says what to do."""
    known = {"DITN_Real_x4.pth": "DITN", "craft_ntire24.pth": "CRAFT"}
    paths = sorted((shared / "data/peers").glob("*.pth"))
    assert len(paths) == 9 and known.keys() <= {path.name for path in paths}
    for path in paths:
        if path.name in known:
            model = load_model(path)
            assert (model.architecture, model.scale) == (known[path.name], 4)
            with torch.no_grad():
                assert model(torch.rand(1, 3, 8, 9)).shape == (1, 3, 32, 36)
        else:
            assert len(read_weights(path).state_dict) > 100
            with pytest.raises(BadInputError, match=r"does not know it either; use its authors' code: --config FILE"):
                load_model(path)


def test_what_runs_code_is_refused_by_name(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 1)), tmp_path / "script.pth")
    with pytest.raises(BadInputError, match=r"script\.pth is refused: it is TorchScript, so a program"):
        load_model(tmp_path / "script.pth")


def test_a_file_in_torchs_format_from_before_1_6_is_the_same_network(tmp_path: Path) -> None:
    path = external_file(tmp_path, "SAFMN", 2)
    (tmp_path / "old.pth").write_bytes(legacy(torch.load(path, weights_only=True)))
    assert equal(load_model(tmp_path / "old.pth").state_dict(), load_model(path).state_dict())


def test_a_network_without_a_gradient_is_named(tmp_path: Path) -> None:
    """PLKSR writes into its maps, outside of training."""
    torch.manual_seed(0)
    plksr = spandrel_network("PLKSR")(dim=16, n_blocks=1, upscaling_factor=2, kernel_size=5)
    model = load_model(written(tmp_path / "net.pth", plksr)).requires_grad_(False)
    with pytest.raises(BadInputError, match="PLKSR overwrites what its gradient needs"):
        attribute(model, torch.rand(1, 3, 16, 16), (4, 4, 16, 16))


def test_without_the_extra_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external_file(tmp_path, "SAFMN", 4)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(BadInputError, match=r"built by spandrel: pip install spandrel torchvision torch==\S+$"):
        load_model(path)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("spandrel", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(BadInputError, match=r"which does not import here \(.*torchvision.*\): pip install"):
        load_model(path)


def test_architectures_of_the_extra_package_take_part_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = []
    package = types.ModuleType("spandrel_extra_arches")
    package.install = lambda ignore_duplicates: installed.append(ignore_duplicates)
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", package)
    load_model(external_file(tmp_path, "SAFMN", 4))
    assert installed == [True]


def test_nobody_takes_anothers_file_for_its_own() -> None:
    """Neither do ours claim a network's tensors, nor spandrel's architectures those of ours."""
    for build in EXTERNAL.values():
        tensors = build(4).state_dict()
        assert [kind for kind in MODELS.values() if kind.arguments_from(tensors)] == []
    detected = [s.architecture.id for s in spandrel.MAIN_REGISTRY if s.detect(tiny(4, kind=IDSANet).state_dict())]
    assert detected == []
    detected = {s.architecture.id for s in spandrel.MAIN_REGISTRY if s.detect(tiny(4).state_dict())}
    assert detected <= {"SSIU"}


def test_any_is_ours_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Whatever the config says of a network."""
    config = load_config(CONFIG[4], ["model=any", "n_feats=32", "attention=dense"])
    assert (config.model, config.n_feats) == ("any", 32)
    path = Path(__file__).parents[2] / "pretrain_model/SSIU_x4.safetensors"
    benchmark_command.main(["complexity", "model=any", f"pretrain={path}"])
    assert "SSIU x4: LR 320x180, padded to 320x192" in capsys.readouterr().out


def test_any_is_not_trained_and_needs_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = external_file(tmp_path, "SAFMN", 4)
    with pytest.raises(ConfigError, match=r"key 'model': any is .* cannot be trained"):
        train_command.main(["--config", CONFIG[4], "model=any", f"pretrain={path}"])
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name]
    with pytest.raises(ConfigError, match="cannot be trained"):
        benchmark_command.main(["train", "model=any", f"pretrain={path}"])
    with pytest.raises(MissingInputError, match="no weights for any here; name a file with pretrain=FILE"):
        benchmark_command.main(["complexity", "model=any"])
    with pytest.raises(ConfigError, match="a model of your own, and any is none"):
        load_config(CONFIG[4], ["model=any", "model_args={width: 3}"])


@pytest.mark.parametrize("target", [["safetensors", "out.safetensors"], ["onnx", "out.onnx"], ["authors", "out.pt"]])
def test_it_is_not_exported(tmp_path: Path, target: list[str]) -> None:
    path = external_file(tmp_path, "SAFMN", 4)
    with pytest.raises(BadInputError, match="holds SAFMN, another method's network"):
        export_command.main([target[0], str(path), str(tmp_path / target[1])])


OWN_CODE = """
from hostile import legacy
from rlfn import RLFN

class Net(RLFN):
    def __init__(self, scale, **arguments):
        super().__init__(upscale=scale, **arguments)
"""


def test_a_network_unknown_to_spandrel_is_scored_by_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """RLFN, its checkpoint as BasicSR writes it from several GPUs: an average beside the last weights, a counter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "their_rlfn.py").write_text(OWN_CODE)
    torch.manual_seed(0)
    last, average = (RLFN(feature_channels=8, mid=8, blocks=1) for _ in range(2))
    state = {
        "params": last.state_dict(),
        "params_ema": {f"module.{name}": tensor for name, tensor in average.state_dict().items()},
        "iter": 500_000,
    }
    torch.save(state, "net_g_500000.pth")
    one_image(tmp_path, 4)
    (tmp_path / "rlfn.yml").write_text(
        "model: their_rlfn:Net\nmodel_args: {feature_channels: 8, mid: 8, blocks: 1}\nscale: 4\n"
        "eval_sets: [Set5]\ndata_path: .\npretrain: net_g_500000.pth\n"
    )
    test_command.main(["--config", "rlfn.yml"])
    assert "their_rlfn x4" in capsys.readouterr().out
    summary = json.loads((tmp_path / "results/net_g_500000_x4/summary.json").read_text())
    expected = evaluate(average.eval(), load_test_sets(load_config("rlfn.yml")))
    for protocol in ("standard", "official"):
        assert summary["protocols"][protocol]["Set5"]["psnr"] == pytest.approx(expected.mean("Set5", protocol).psnr)
    with pytest.raises(BadInputError, match=r"spandrel .* does not know it either"):
        load_model(tmp_path / "net_g_500000.pth")
    sys.modules.pop("their_rlfn")

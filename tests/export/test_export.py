"""ssiu export as a user runs it: there and back, and one line for what cannot be done."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_sets import photo
from tiny import equal, tiny
from torch import nn
from torch.export import ExportedProgram

from ssiu import Upscaler, upscale
from ssiu.cli import export as export_command
from ssiu.cli import upscale as upscale_command
from ssiu.cli.console import run_cli
from ssiu.errors import BadInputError, ConfigError
from ssiu.export.onnx import PRECISIONS, TOLERANCE, OnnxNetwork, export_onnx, export_program, export_pt2, smallest_side
from ssiu.images.io import read_rgb, save_image
from ssiu.inference.prepare import prepare
from ssiu.inference.tiles import super_resolve
from ssiu.models.custom import CustomNetwork
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.ssiu import SSIU
from ssiu.weights.checkpoint import save_checkpoint
from ssiu.weights.formats import read_weights, save_weights
from ssiu.weights.load import load_model


@pytest.fixture
def export(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """Runs the command with arguments: exit code and everything it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            run_cli(export_command.main, list(map(str, arguments)))
        return ended.value.code or 0, "".join(capsys.readouterr())

    return run


def test_the_authors_file_becomes_ours_and_theirs_again(
    reference: Path, tmp_path: Path, export: Callable[..., tuple[int, str]]
) -> None:
    theirs, ours, back = reference / "official_tiny_x4.pt", tmp_path / "ours.safetensors", tmp_path / "back.pt"
    code, printed = export("safetensors", theirs, ours)
    assert code == 0 and f"wrote {ours}: SSIU x4, 157 tensors, sha256 {read_weights(theirs).sha256}" in printed
    assert export("authors", ours, back)[0] == 0
    before, after = (torch.load(path, weights_only=True)["model_state_dict"] for path in (theirs, back))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_training_checkpoint_becomes_release_weights_without_its_paths(
    tmp_path: Path, export: Callable[..., tuple[int, str]]
) -> None:
    model = SSIU(scale=3, n_feats=8, n_blocks=3, skip="raw")
    config = {**model.arguments(), "data_path": "/home/someone/data"}
    save_checkpoint(tmp_path / "last.pt", {"model": model.state_dict(), "config": config, "step": 1000})
    assert export("safetensors", tmp_path / "last.pt", tmp_path / "release.safetensors")[0] == 0
    assert load_model(tmp_path / "release.safetensors").arguments() == model.arguments()
    assert read_weights(tmp_path / "release.safetensors").metadata["step"] == "1000"
    assert b"someone" not in (tmp_path / "release.safetensors").read_bytes()


def test_weights_for_basicsr_hold_the_average_only_where_there_is_one(
    tmp_path: Path, export: Callable[..., tuple[int, str]]
) -> None:
    model, average = (SSIU(scale=3, n_feats=8, n_blocks=3) for _ in range(2))
    save_weights(tmp_path / "plain.safetensors", model)
    assert "wrote" in export("basicsr", tmp_path / "plain.safetensors", tmp_path / "plain.pth")[1]
    (key, tensors), *others = torch.load(tmp_path / "plain.pth", weights_only=True).items()
    assert (key, others) == ("params", []) and equal(tensors, model.state_dict())
    ema = {"n_averaged": torch.tensor(5), **{f"module.{name}": t for name, t in average.state_dict().items()}}
    state = {"model": model.state_dict(), "ema": ema, "config": model.arguments(), "step": 5}
    save_checkpoint(tmp_path / "last.pt", state)
    code, printed = export("basicsr", tmp_path / "last.pt", tmp_path / "both.pth")
    assert code == 0 and "params and params_ema, SSIU x3" in printed
    saved = torch.load(tmp_path / "both.pth", weights_only=True)
    assert equal(saved["params"], model.state_dict()) and equal(saved["params_ema"], average.state_dict())
    assert equal(load_model(tmp_path / "both.pth").state_dict(), average.state_dict())
    save_checkpoint(tmp_path / "last.pt", {**state, "model": SSIU(scale=3, n_feats=16, n_blocks=3).state_dict()})
    code, printed = export("basicsr", tmp_path / "last.pt", tmp_path / "neither.pth")
    assert code == 65 and "average is not of the network that it trains" in printed
    assert not (tmp_path / "neither.pth").exists()


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("authors", "absent.pt", "out.pt"), 66, "error: no file at"),
        (("authors", "variant.safetensors", "out.pt"), 78, "no beta_sign=plus"),
        (("safetensors", "broken.pt", "out.safetensors"), 65, "broken.pt is truncated or not a torch file"),
        (("safetensors", "variant.safetensors", "out.pt"), 73, "expected a file name that ends in .safetensors"),
        (("pt2", "variant.safetensors", "out.onnx"), 73, "expected a file name that ends in .pt2"),
        (("basicsr", "variant.safetensors", "out.pt"), 73, "expected a file name that ends in .pth"),
        (("safetensors", "variant.safetensors", "broken.pt/out.safetensors"), 73, "the output folder broken.pt"),
        (
            ("onnx", "variant.safetensors", "new/out.txt"),
            73,
            "error: new/out.txt: expected a file name that ends in .onnx",
        ),
        (("onnx", "absent.pt", "folder.onnx"), 73, "error: folder.onnx is a folder; rename it"),
        (("nonsense", "variant.safetensors", "out.pt"), 2, "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: Callable, arguments: tuple, code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_weights("variant.safetensors", SSIU(n_feats=8, n_blocks=3, beta_sign="plus"))
    Path("broken.pt").write_bytes(b"PK\x03\x04")
    Path("folder.onnx").mkdir()
    ended, printed = export(*arguments)
    assert ended == code and message in printed and "Traceback" not in printed
    assert printed.count("\n") == 1 or code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.pt", "folder.onnx", "variant.safetensors"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A network, and its ONNX file."""
    network, path = tiny(2).eval(), tmp_path_factory.mktemp("onnx") / "tiny_x2.onnx"
    assert export_onnx(network, path) < TOLERANCE
    return network, path


@pytest.mark.slow
def test_an_onnx_file_gives_the_networks_output_at_any_size(exported: tuple[nn.Module, Path]) -> None:
    network, path = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])  # as anybody would run it
    for height, width in ((32, 48), (37, 91), (1, 1), (16, 5)):
        lr = torch.rand(1, 3, height, width)
        with torch.no_grad():
            expected = network(lr)
        (sr,) = session.run(None, {"lr": lr.numpy()})
        torch.testing.assert_close(torch.from_numpy(sr), expected, rtol=0, atol=TOLERANCE)


def test_upscale_py_takes_an_onnx_file(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, path = exported
    save_image(tmp_path / "a.png", photo("chelsea", 41, 60))
    assert (
        upscale_command.main([str(tmp_path / "a.png"), "--output", str(tmp_path / "b.png"), "--weights", str(path)])
        == 0
    )
    ours = upscale(network, photo("chelsea", 41, 60)).astype(int)
    assert np.abs(read_rgb(tmp_path / "b.png") - ours).max() <= 1
    with pytest.raises(BadInputError, match="upscales by 2, not 3"):
        upscale_command.main(
            [str(tmp_path / "a.png"), "--output", str(tmp_path / "c.png"), "--weights", str(path), "--scale", "3"]
        )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_onnx_file_is_not_said_to_be_computed_in_what_it_is_not(
    exported: tuple[nn.Module, Path], precision: str
) -> None:
    with pytest.raises(ConfigError, match="OnnxNetwork cannot be computed in torch"):
        Upscaler(OnnxNetwork(exported[1]), precision=precision)


@pytest.mark.parametrize("content", [b"", b"no network", onnx.ModelProto(ir_version=8).SerializeToString()])
def test_what_is_no_network_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(BadInputError, match=r"a.onnx is damaged or was not made by `ssiu export onnx`"):
        OnnxNetwork(tmp_path / "a.onnx")


def changed(path: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """The ONNX file ``path`` with one thing in it changed."""
    document = onnx.load(path)
    change(document)
    onnx.save(document, target)
    return target


def metadata(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(document: onnx.ModelProto) -> None:
        next(entry for entry in document.metadata_props if entry.key == key).value = value

    return change


def rename_input(document: onnx.ModelProto, index: int = 0, new: str = "image") -> None:
    old = document.graph.input[index].name
    for node in document.graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
    document.graph.input[index].name = new


def fix_size(document: onnx.ModelProto) -> None:
    for dimension, side in zip(document.graph.input[0].type.tensor_type.shape.dim[2:], (40, 56), strict=True):
        dimension.dim_value = side


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (metadata("scale", "3"), r"\(1, 3, 10, 14\), expected float32 \(1, 3, 15, 21\)"),
        (metadata("scale", "1000000"), "scale 1000000"),
        (metadata("scale", "-2"), "scale -2"),
        (metadata("scale", "two"), "it lacks our metadata"),
        (metadata("size_multiple", "0"), "size multiple 0"),
        (metadata("size_multiple", "1000000"), "size multiple 1000000"),
        (rename_input, "'image'"),
        (fix_size, "index: 2 Got: 5 Expected: 40"),
    ],
)
def test_an_onnx_file_that_does_not_do_what_its_metadata_say_is_refused(
    exported: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture, change: Callable, named: str
) -> None:
    weights = changed(exported[1], tmp_path / "changed.onnx", change)
    with pytest.raises(BadInputError, match=named) as caught:
        OnnxNetwork(weights)
    assert "\n" not in str(caught.value)
    save_image(tmp_path / "a.png", photo("chelsea", 20, 24))
    arguments = [str(tmp_path / "a.png"), "--output", str(tmp_path / "b.png"), "--weights", str(weights)]
    with pytest.raises(SystemExit) as ended:
        run_cli(upscale_command.main, arguments)
    assert ended.value.code == 65 and not (tmp_path / "b.png").exists()
    assert "changed.onnx is damaged or was not made by `ssiu export onnx`" in capsys.readouterr().err


class Pools(nn.Module):
    """Takes images from 15x15 on, as RLFN does."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.before(x)
        seen = nn.functional.interpolate(nn.functional.max_pool2d(y[..., 1:-1:2, 1:-1:2], 7, 3), size=y.shape[2:])
        return self.shuffle(self.after(y * seen.sigmoid()))


def element_types(path: Path) -> tuple[set[int], set[int]]:
    """Of input and output, and of what was learned."""
    graph = onnx.load(path).graph
    learned = [each for each in graph.initializer if each.name.endswith(("weight", "bias"))]
    tensors = {each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)}
    return tensors, {each.data_type for each in learned}


def test_an_onnx_file_takes_any_number_of_images_from_the_smallest_size_on_and_names_its_axes(tmp_path: Path) -> None:
    network = CustomNetwork(Pools(2).eval(), "pools.py:Pools", 2, {})
    assert smallest_side(network) == 15 and smallest_side(tiny(2)) == 1
    assert export_onnx(network, tmp_path / "a.onnx") < TOLERANCE
    assert export_pt2(network, tmp_path / "a.pt2") < TOLERANCE
    facts = {each.key: each.value for each in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert facts["smallest_side"] == "15"
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_outputs()[0].shape == ["batch", 3, "2*height", "2*width"]
    for batch in (1, 3):
        lr = torch.rand(batch, 3, 15, 40)
        with torch.no_grad():
            expected = network(lr)
        (sr,) = session.run(None, {"lr": lr.numpy()})
        torch.testing.assert_close(torch.from_numpy(sr), expected, rtol=0, atol=TOLERANCE)
    exported = OnnxNetwork(tmp_path / "a.onnx")
    assert exported(torch.rand(2, 3, 10, 4)).shape == (2, 3, 20, 8), "smaller images are padded"


def test_half_precision_is_that_of_weights_and_of_both_tensors(tmp_path: Path) -> None:
    network = CustomNetwork(Pools(2).eval(), "pools.py:Pools", 2, {})
    for precision, kind in (("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)):
        path = tmp_path / f"{precision}.onnx"
        assert export_onnx(network, path, precision=precision) < PRECISIONS[precision][1]
        assert element_types(path) == ({kind}, {kind})
    exported, lr = OnnxNetwork(tmp_path / "fp16.onnx"), torch.rand(1, 3, 20, 37)  # ONNX Runtime has no bf16 on a CPU
    with torch.no_grad():
        difference = (exported(lr) - network(lr)).abs().max().item()
    assert 1e-6 < difference < PRECISIONS["fp16"][1]
    network.dtypes = (torch.bfloat16,)
    with pytest.raises(ConfigError, match=r"--precision fp16: Pools cannot be computed in torch\.float16"):
        export_onnx(network, tmp_path / "c.onnx", precision="fp16")


@pytest.mark.slow  # an export of SSIU
def test_ssiu_is_exported_in_half_precision(tmp_path: Path, export: Callable) -> None:
    save_weights(tmp_path / "a.safetensors", tiny(2))
    code, printed = export("onnx", tmp_path / "a.safetensors", tmp_path / "a.onnx", "--precision", "fp16")
    assert code == 0, printed
    assert element_types(tmp_path / "a.onnx") == ({onnx.TensorProto.FLOAT16},) * 2


SIZES = ((32, 48), (37, 91), (1, 1), (16, 5), (5, 40), (40, 5), (9, 17))


def assert_serves_every_size(program: ExportedProgram, network: nn.Module) -> None:
    exported = program.module()
    for height, width in SIZES:
        lr = torch.rand(1, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(exported(lr), network(lr), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SSIU, IDSANet])
def test_torch_export_takes_any_height_and_width_and_leaves_the_network_in_training(kind: type[nn.Module]) -> None:
    network = tiny(2, kind=kind).train()
    program = export_program(network)
    assert network.training and all(module.training for module in network.modules())
    assert_serves_every_size(program, network.eval())


@pytest.mark.full
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    "variant",
    [dict(kind=SSIU), dict(kind=SSIU, attention="dense", moe=False), dict(kind=IDSANet, share_group=2, smu="none")],
)
def test_torch_export_of_every_scale_and_variant_takes_any_height_and_width(variant: dict, scale: int) -> None:
    network = tiny(scale, **variant).eval()
    assert_serves_every_size(export_program(network), network)


@pytest.mark.slow
def test_a_pt2_file_runs_with_pytorch_alone(tmp_path: Path, export: Callable[..., tuple[int, str]]) -> None:
    network = tiny(2).eval()
    save_weights(tmp_path / "a.safetensors", network)
    code, printed = export("pt2", tmp_path / "a.safetensors", tmp_path / "a.pt2")
    assert code == 0 and "SSIU x2, within" in printed and "at 64x48, 53x37, 1x1" in printed
    script = (
        "import sys, torch; program = torch.export.load('a.pt2').module(); "
        "torch.save(program(torch.load('lr.pt')), 'sr.pt'); assert 'ssiu' not in sys.modules"
    )
    lr = torch.rand(1, 3, 19, 24)
    torch.save(lr, tmp_path / "lr.pt")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    with torch.no_grad():
        torch.testing.assert_close(torch.load(tmp_path / "sr.pt"), network(lr), rtol=0, atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize(
    "variant", [dict(attention="dense", moe=False), dict(kind=IDSANet), dict(kind=IDSANet, scale=3)]
)
def test_every_kind_of_network_becomes_onnx(tmp_path: Path, variant: dict) -> None:
    assert export_onnx(tiny(**variant).eval(), tmp_path / "a.onnx") < TOLERANCE


@pytest.mark.slow
def test_an_onnx_file_for_tiles_takes_their_offset_and_equals_the_whole_image(tmp_path: Path, export: Callable) -> None:
    network = tiny(2).eval()
    save_weights(tmp_path / "tiny.safetensors", network)
    code, printed = export("onnx", tmp_path / "tiny.safetensors", tmp_path / "tiles.onnx", "--tiles")
    assert code == 0, printed
    session = onnxruntime.InferenceSession(tmp_path / "tiles.onnx", providers=["CPUExecutionProvider"])
    assert [(each.name, each.type) for each in session.get_inputs()] == [
        ("lr", "tensor(float)"),
        ("tile_offset", "tensor(int32)"),
    ]
    lr = torch.rand(1, 3, 97, 75)
    with torch.no_grad():
        whole = network(lr)
    for path in (tmp_path / "tiles.onnx", changed(tmp_path / "tiles.onnx", tmp_path / "older.onnx", called_place)):
        exported = OnnxNetwork(path)
        torch.testing.assert_close(exported(lr), whole, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(super_resolve(prepare(exported), lr, tile=16), whole, rtol=0, atol=2e-5)


def called_place(document: onnx.ModelProto) -> None:
    """The second input as it was called at first."""
    rename_input(document, 1, "place")


def test_a_network_that_takes_no_tile_offset_has_no_onnx_file_for_tiles(tmp_path: Path, export: Callable) -> None:
    save_weights(tmp_path / "idsa.safetensors", tiny(2, kind=IDSANet))
    code, printed = export("onnx", tmp_path / "idsa.safetensors", tmp_path / "tiles.onnx", "--tiles")
    assert code == 78 and "--tiles: IDSANet takes no tile offset" in printed and not (tmp_path / "tiles.onnx").exists()

"""Weights that do not fit, are damaged or were forged: refused in one line, the network untouched."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from faults import in_child, limit_memory
from hostile import saved
from tiny import Tensors, equal, make_state, tiny
from torch import nn

from ssiu.errors import BadInputError, MissingInputError
from ssiu.inference.networks import load_network
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.ssiu import SSIU
from ssiu.weights.checkpoint import save_checkpoint
from ssiu.weights.formats import read_weights, save_weights
from ssiu.weights.load import load_model, load_weights


@pytest.fixture
def model() -> SSIU:
    return tiny()


@pytest.mark.parametrize("checkpoint", [2, 3, 4])
@pytest.mark.parametrize("config", [2, 3, 4])
def test_a_scale_loads_only_into_its_own(tmp_path: Path, checkpoint: int, config: int) -> None:
    path = tmp_path / "ours.safetensors"
    save_weights(path, tiny(checkpoint))
    network = tiny(config, seed=1)
    if checkpoint == config:
        load_weights(network, path)
        assert equal(network.state_dict(), tiny(checkpoint).state_dict())
        assert load_model(path, scale=config).scale == config
        return
    with pytest.raises(BadInputError, match=f"checkpoint scale={checkpoint}, config scale={config}"):
        load_weights(network, path)
    with pytest.raises(BadInputError, match=f"upscales by {checkpoint}, not {config}"):
        load_model(path, scale=config)
    assert equal(network.state_dict(), tiny(config, seed=1).state_dict())


def renamed(state: Tensors) -> Tensors:
    return {name.replace("stages.1.msgm2.gate.weight", "stages.1.msgm2.gates.weight"): t for name, t in state.items()}


def missing(state: Tensors) -> Tensors:
    return {
        name: tensor for name, tensor in state.items() if name not in ("stages.2.norm.bias", "stages.2.norm.weight")
    }


def headless(state: Tensors) -> Tensors:
    return {name: tensor for name, tensor in state.items() if name != "head.weight"}


def extra(state: Tensors) -> Tensors:
    return {**state, "stages.0.extra": torch.ones(1)}


def reshaped(state: Tensors) -> Tensors:
    return {**state, "stages.0.msgm1.gate.weight": state["stages.0.msgm1.gate.weight"].reshape(1, 8, 8, 1)}


def numbered(state: Tensors) -> Tensors:
    return {**state, "head.weight": torch.ones(8, 3, 3, 3, dtype=torch.int64)}


def enormous(state: Tensors) -> Tensors:
    return {**state, "tail.0.bias": state["tail.0.bias"].double() + 1e300}


def poisoned(state: Tensors) -> Tensors:
    return {**state, "tail.0.bias": state["tail.0.bias"].index_fill(0, torch.tensor([3]), float("nan"))}


def infinite(state: Tensors) -> Tensors:
    return {**state, "tail.0.bias": state["tail.0.bias"] / 0}


def twice(state: Tensors) -> Tensors:
    return {**state, "module.head.bias": torch.ones(8)}


def no_tensor(state: Tensors) -> dict:
    return {**state, "epoch": 3}


def empty(state: Tensors) -> Tensors:
    return {}


def nonsense(state: Tensors) -> Tensors:
    return {**state, "head.weight": torch.tensor(0.0)}


def endless(state: Tensors) -> Tensors:
    return {**state, "stages.99999998.esam.rel_h": torch.ones(1)}


def expanded(state: Tensors) -> Tensors:
    return {**state, "head.weight": torch.ones(1).expand(10**12)}


@pytest.mark.parametrize(
    "damage, expected",
    [
        (renamed, "1 missing.*stages.1.msgm2.gate.weight.*1 unexpected.*stages.1.msgm2.gates.weight"),
        (missing, "2 missing .'stages.2.norm.bias, stages.2.norm.weight'."),
        (headless, "1 missing .'head.weight'."),
        (extra, "1 unexpected .'stages.0.extra'."),
        (reshaped, r"stages.0.msgm1.gate.weight is float32 \(1, 8, 8, 1\), expected float32 \(8, 8, 1, 1\)"),
        (numbered, r"head.weight is int64 \(8, 3, 3, 3\), expected float32"),
        (enormous, r"'tail.0.bias' holds numbers too large for torch.float32"),
        (poisoned, "'tail.0.bias' holds NaN or infinity"),
        (infinite, "'tail.0.bias' holds NaN or infinity"),
        (twice, "two tensors of one name"),
        (no_tensor, "entry 'epoch' is not a tensor"),
        (empty, "holds a dict and no weights"),
        (nonsense, r"head.weight is float32 \(\), expected"),
        (endless, "1 unexpected .'stages.99999998.esam.rel_h'."),
        (expanded, "larger than its data"),
    ],
)
def test_weights_that_do_not_fit_exactly_are_refused_and_the_network_is_untouched(
    tmp_path: Path, model: SSIU, damage: Callable[[Tensors], Tensors], expected: str
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(saved(damage(model.state_dict())))
    network = tiny(seed=1)
    with pytest.raises(BadInputError, match=expected) as caught:
        load_weights(network, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert equal(network.state_dict(), tiny(seed=1).state_dict())
    with pytest.raises(BadInputError):
        load_model(path)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.ones(2).to(torch.float8_e4m3fn), "is float8_e4m3fn; convert it to float32"),
        (torch.ones(2).to(torch.float8_e5m2), "is float8_e5m2; convert it to float32"),
        (torch.ones(2, dtype=torch.complex64), "is complex64; convert it to float32"),
        (torch.ones(2, dtype=torch.uint16), "is uint16; convert it to float32"),
        (torch.ones((1,) * 65), "has 65 dimensions; expected 64 at most"),
    ],
)
def test_tensors_that_no_network_is_computed_with_are_named(
    tmp_path: Path, tensor: torch.Tensor, expected: str
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.torch.save({"odd": tensor}))
    with pytest.raises(BadInputError, match=f"weights.safetensors is refused: tensor 'odd' {expected}"):
        read_weights(path)
    path = tmp_path / "weights.pt"
    path.write_bytes(saved({"odd": tensor}))
    with pytest.raises(BadInputError, match=r"weights.pt is refused: (tensor 'odd'|it would call torch\.)"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_shapes_cannot_ask_for_a_network_that_the_file_does_not_fill(tmp_path: Path, suffix: str) -> None:
    """Half a megabyte whose first convolution has 5,000 channels: five gigabytes of network."""
    names = [f"stages.{i}.esam.rel_h" for i in range(3)]
    state = {"head.weight": torch.ones(5000, 3, 3, 3), "tail.0.weight": torch.ones(20_000, 1)}
    state |= {name: torch.ones(1, 10, 1, 625) for name in names}
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(saved(state) if suffix == ".pt" else safetensors.torch.save(state))
    load_model_of(tmp_path)

    def load() -> None:
        limit_memory(512 << 20)
        load_model(path)

    code, message = in_child(load)
    assert code == 65 and "does not fit SSIU" in message, message


def load_model_of(folder: Path) -> None:
    """Loads a network once, and with it all that torch loads lazily."""
    save_weights(folder / "intact.safetensors", tiny())
    load_model(folder / "intact.safetensors")


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000], ids=["list", "dict"])
def test_metadata_nested_without_end_are_refused(tmp_path: Path, model: SSIU, nested: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors.torch.save(model.state_dict(), {"arguments": nested}))
    with pytest.raises(BadInputError, match=r"a\.safetensors: its metadata do not name the arguments of SSIU"):
        load_model(tmp_path / "a.safetensors")
    header = b'{"__metadata__":' + b"[" * 100_000
    (tmp_path / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BadInputError, match="truncated or not a safetensors"):
        load_model(tmp_path / "b.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".onnx"])
def test_a_name_too_long_for_any_file_is_missing_input(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MissingInputError, match="File name too long"):
        load_network(tmp_path / ("n" * 300 + suffix), None, torch.device("cpu"))


def test_only_the_first_five_missing_tensors_are_named(tmp_path: Path, model: SSIU) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(saved({n: t for n, t in model.state_dict().items() if ".msgm1." not in n}))
    with pytest.raises(BadInputError) as caught:
        load_weights(model, path)
    assert "30 missing" in str(caught.value) and str(caught.value).count("msgm1") == 5


def test_another_architecture_and_another_variant_are_refused_by_name(tmp_path: Path, model: SSIU) -> None:
    path = tmp_path / "ours.safetensors"
    save_weights(path, tiny(beta_sign="plus"))
    with pytest.raises(BadInputError, match="checkpoint beta_sign=plus, config beta_sign=minus"):
        load_weights(model, path)
    with pytest.raises(BadInputError, match="checkpoint n_blocks=3, config n_blocks=6"):
        load_weights(SSIU(scale=2, n_feats=8, n_blocks=6), path)
    save_weights(path, tiny(kind=IDSANet))
    with pytest.raises(BadInputError, match="checkpoint model=IDSANet, config model=SSIU"):
        load_weights(model, path)
    with pytest.raises(BadInputError, match="holds weights of IDSANet, not SSIU"):
        load_model(path, model="SSUFSR")
    path = tmp_path / "classifier.pt"
    path.write_bytes(saved(nn.Linear(2, 2).state_dict()))
    with pytest.raises(BadInputError, match=r"fits none of SSIU.*begin with 'bias, weight'"):
        load_model(path)


def test_a_file_cannot_name_code_or_an_argument_of_its_own(tmp_path: Path, model: SSIU) -> None:
    path = tmp_path / "ours.safetensors"
    for arguments in (
        {"model": "os.system", "forward": "os.system"},
        ["scale"],
        "scale",
        {"scale": 4, "n_feats": 10**9},
    ):
        metadata = {"model": "os.system", "arguments": json.dumps(arguments)}
        path.write_bytes(safetensors.torch.save(model.state_dict(), metadata))
        try:
            loaded = load_model(path)
        except BadInputError:
            continue
        assert equal(loaded.state_dict(), model.state_dict()) and loaded.arguments() == model.arguments()
    path.write_bytes(safetensors.torch.save(model.state_dict(), {"arguments": '{"skip": ["os.system"]}'}))
    with pytest.raises(BadInputError, match="cannot be built"):
        load_model(path)


def test_what_metadata_say_is_shown_without_its_control_characters(tmp_path: Path, model: SSIU) -> None:
    path = tmp_path / "ours.safetensors"
    said = json.dumps({"skip": "\x1b[2J\nraw" + "w" * 1000})
    path.write_bytes(safetensors.torch.save(model.state_dict(), {"arguments": said}))
    for load in (load_model, lambda path: load_weights(model, path)):
        with pytest.raises(BadInputError, match=r"\\x1b\[2J\\nraw") as error:
            load(path)
        assert str(error.value).isprintable() and len(str(error.value)) < 600 + len(str(path))


def test_a_checkpoint_whose_config_holds_a_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, make_state(1) | {"config": {"lr": torch.ones(1)}})
    with pytest.raises(BadInputError, match=r"last\.pt: its config holds more than text and numbers"):
        read_weights(path)


@pytest.mark.parametrize("name", ["folder.pt", "folder.safetensors", "absent.pt", "absent.safetensors"])
def test_a_missing_file_is_missing_input(tmp_path: Path, name: str) -> None:
    if "folder" in name:
        (tmp_path / name).mkdir()
    with pytest.raises(MissingInputError, match=name):
        load_model(tmp_path / name)

"""Weights: every format gives the same tensors, and nothing that does not fit exactly is loaded."""

import json
import logging
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from faults import hostile_files, in_child, limit_file_size, saved
from torch import Tensor, nn

from ssiu import weights as weights_module
from ssiu.checkpoint import save_checkpoint, tensors_digest
from ssiu.errors import BadInputError, ConfigError, MissingInputError, NonFiniteError, OutputError
from ssiu.models.idsa_net import IDSANet
from ssiu.models.ssiu import SSIU
from ssiu.weights import (
    find_weights,
    load_model,
    load_trunk,
    load_weights,
    read_weights,
    save_authors_weights,
    save_weights,
)

Tensors = dict[str, Tensor]


def tiny(scale: int = 2, seed: int = 0, kind: type[nn.Module] = SSIU, **arguments: object) -> nn.Module:
    """A network with few channels and 3 stages."""
    torch.manual_seed(seed)
    return kind(**{"scale": scale, "n_feats": 8 if kind is SSIU else 16, "n_blocks": 3, **arguments})


def equal(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


@pytest.fixture
def model() -> SSIU:
    return tiny()


def in_every_format(folder: Path, model: SSIU) -> list[Path]:
    """``model`` in all readable formats."""
    state = model.state_dict()
    save_weights(folder / "ours.safetensors", model)
    save_authors_weights(folder / "authors.pt", model)
    averaged = torch.optim.swa_utils.AveragedModel(model).state_dict()
    others = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    config = {"model": "SSIU", "scale": model.scale, "beta_sign": "minus", "lr": 1e-3}
    save_checkpoint(folder / "training.pt", {"model": state, "ema": None, "step": 7, "config": config})
    save_checkpoint(folder / "training_ema.pt", {"model": others, "ema": state, "step": 7, "config": config})
    save_checkpoint(folder / "training_averaged.pt", {"model": others, "ema": averaged})
    plain = {
        "plain.pth": state,
        "ordered.pt": OrderedDict(state),
        "parameters.pt": dict(model.named_parameters()),
        "wrapped.ckpt": {"state_dict": state, "epoch": 3},
        "basicsr.pth": {"params": others, "params_ema": state},
        "parallel.pt": {f"module.{name}": tensor for name, tensor in state.items()},
        "compiled.pt": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
    }
    for name, document in plain.items():
        (folder / name).write_bytes(saved(document))
    return sorted(folder.iterdir())


def test_every_format_gives_the_same_weights(tmp_path: Path, model: SSIU) -> None:
    paths = in_every_format(tmp_path, model)
    assert len(paths) == 12
    for path in paths:
        loaded = load_model(path, scale=2, model="SSUFSR")
        assert equal(loaded.state_dict(), model.state_dict()), path
        assert not loaded.training and loaded.arguments() == model.arguments()
        assert read_weights(path).sha256 == tensors_digest(model.state_dict())


@pytest.mark.parametrize("scale, count", [(2, 155), (3, 155), (4, 157)])
def test_the_authors_checkpoint_goes_there_and_back_bit_for_bit(
    reference: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, scale: int, count: int
) -> None:
    theirs = reference / f"official_tiny_x{scale}.pt"
    with caplog.at_level(logging.INFO, "ssiu"):
        save_authors_weights(tmp_path / "back.pt", load_model(theirs))
    assert f"loaded {count}/{count} tensors from {theirs}" in caplog.text
    original = torch.load(theirs, weights_only=True)["model_state_dict"]
    assert equal(dict(original), torch.load(tmp_path / "back.pt", weights_only=True)["model_state_dict"])


def test_all_439_tensors_of_the_full_network_go_there_and_back(shared: Path, tmp_path: Path) -> None:
    theirs = shared / "reference" / "official_x4.pt"
    model = load_model(theirs)
    save_weights(tmp_path / "ours.safetensors", model)
    save_authors_weights(tmp_path / "back.pt", load_model(tmp_path / "ours.safetensors"))
    original = torch.load(theirs, weights_only=True)["model_state_dict"]
    assert len(original) == 439
    assert equal(dict(original), torch.load(tmp_path / "back.pt", weights_only=True)["model_state_dict"])


@pytest.mark.parametrize("scale, count", [(2, 437), (3, 437), (4, 439)])
def test_a_full_network_says_how_many_tensors_it_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scale: int, count: int
) -> None:
    save_weights(tmp_path / "full.safetensors", SSIU(scale=scale))
    with caplog.at_level(logging.INFO, "ssiu"):
        load_model(tmp_path / "full.safetensors")
    assert f"loaded {count}/{count} tensors from {tmp_path / 'full.safetensors'}" in caplog.messages


@pytest.mark.parametrize(
    "arguments",
    [{"attention": "dense"}, {"moe": False}, {"beta_sign": "plus"}, {"skip": "raw"}, {"num_heads": 2}, {"scale": 3}]
    + [{"kind": IDSANet}, {"kind": IDSANet, "share_group": 2, "smu": "none", "scale": 3}],
)
def test_every_variant_is_rebuilt_from_its_own_file(tmp_path: Path, arguments: dict) -> None:
    model = tiny(**arguments).eval()
    lr = torch.rand(1, 3, 5, 7)
    save_weights(tmp_path / "ours.safetensors", model)
    config = {**model.arguments(), "lr": 1e-3, "data_path": "elsewhere"}
    save_checkpoint(tmp_path / "training.pt", {"model": model.state_dict(), "config": config})
    for path in tmp_path.iterdir():
        loaded = load_model(path)
        assert loaded.arguments() == model.arguments()
        with torch.no_grad():
            assert torch.equal(loaded(lr), model(lr))


def test_metadata_is_kept_and_holds_the_digest_of_the_tensors(tmp_path: Path, model: SSIU) -> None:
    path = tmp_path / "ours.safetensors"
    sha256 = save_weights(path, model, {"trained on": "DF2K"})
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["trained on"] == "DF2K" and header["model"] == "SSIU" and header["format"] == "pt"
    assert json.loads(header["arguments"]) == model.arguments()
    assert header["sha256"] == sha256 == tensors_digest(model.state_dict()) == read_weights(path).sha256
    assert equal(safetensors.torch.load_file(path), model.state_dict())  # as any other tool reads it


# what does not fit


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
    for load in (lambda: load_weights(network, path), lambda: load_model(path, scale=config)):
        with pytest.raises(BadInputError, match=f"checkpoint scale={checkpoint}, config scale={config}"):
            load()
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


def halved(state: Tensors) -> Tensors:
    return {name: tensor.half() for name, tensor in state.items()}


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
        (halved, r"head.weight is float16 \(8, 3, 3, 3\), expected float32"),
        (poisoned, "'tail.0.bias' holds NaN or infinity"),
        (infinite, "'tail.0.bias' holds NaN or infinity"),
        (twice, "two tensors of one name"),
        (no_tensor, "entry 'epoch' is no tensor"),
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
    with pytest.raises(BadInputError, match="checkpoint model=IDSANet, config model=SSIU"):
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


@pytest.mark.parametrize("name", ["folder.pt", "folder.safetensors", "absent.pt", "absent.safetensors"])
def test_a_missing_file_is_missing_input(tmp_path: Path, name: str) -> None:
    if "folder" in name:
        (tmp_path / name).mkdir()
    with pytest.raises(MissingInputError, match=name):
        load_model(tmp_path / name)


# damage


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_no_flipped_byte_changes_a_value_silently(tmp_path: Path, suffix: str) -> None:
    """1,000 flips; the file is small so that header and names get their share. ``.pt`` has no digest, but CRCs."""
    path = tmp_path / f"weights{suffix}"
    torch.manual_seed(0)
    state = {"head.weight": torch.randn(8, 3), "tail.0.weight": torch.randn(4, 4), "bias": torch.randn(8)}
    if suffix == ".pt":
        path.write_bytes(saved({"model_state_dict": state}))
    else:
        save_weights(path, _Named(state), {"trained on": "DF2K"})
    intact, original = path.read_bytes(), read_weights(path)
    rng = random.Random(0)
    refused = 0
    for _ in range(1000):
        data = bytearray(intact)
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        try:
            read = read_weights(path)
        except BadInputError:
            refused += 1
            continue
        assert equal(read.state_dict, original.state_dict) and read.sha256 == original.sha256
        assert read.metadata.get("trained on") == original.metadata.get("trained on")
        assert read.metadata.get("arguments") == original.metadata.get("arguments")
    assert refused > (300 if suffix == ".pt" else 900)


def test_an_entry_marked_as_a_folder_is_refused(tmp_path: Path) -> None:
    """One bit in the archive's directory makes torch return memory that it never read."""
    path = tmp_path / "weights.pt"
    content = saved({"head.weight": torch.randn(8, 3)})
    record = content.rindex(b"archive/data/0") - 46  # its central directory record, attributes at 38
    assert content[record : record + 4] == b"PK\x01\x02"
    path.write_bytes(content[: record + 38] + b"\x10" + content[record + 39 :])
    with pytest.raises(BadInputError, match="damaged: its entry 'archive/data/0'"):
        read_weights(path)


class _Named(nn.Module):
    """Any tensors, for `save_weights`."""

    def __init__(self, state: Tensors):
        super().__init__()
        self.state = state

    def state_dict(self) -> Tensors:
        return self.state

    def arguments(self) -> dict[str, int]:
        return {"scale": 2}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_no_truncated_file_is_accepted(tmp_path: Path, model: SSIU, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save_weights(path, model) if suffix == ".safetensors" else save_authors_weights(path, model)
    intact = path.read_bytes()
    for length in [0, 1, 7, 8, 9, *random.Random(0).sample(range(len(intact)), 200)]:
        path.write_bytes(intact[:length])
        with pytest.raises(BadInputError):
            read_weights(path)


def test_a_torch_file_is_no_safetensors_file_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for _, content, _ in hostile_files(tmp_path / "victim"):
        path.write_bytes(content)
        with pytest.raises(BadInputError):
            read_weights(path)
    assert not (tmp_path / "victim").exists()


# saving


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, model: SSIU) -> None:
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    for save, name in ((save_weights, "w.safetensors"), (save_authors_weights, "w.pt")):
        with pytest.raises(NonFiniteError, match=r"'head.bias'"):
            save(tmp_path / name, model)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_weights(tmp_path: Path, model: SSIU) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, model)

    def task() -> None:
        limit_file_size(5000, kill=False)
        save_weights(path, tiny(seed=1))

    code, message = in_child(task)
    assert code == 74 and str(path) in message
    assert equal(load_model(path).state_dict(), model.state_dict()) and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "arguments",
    [{"attention": "dense"}, {"moe": False}, {"beta_sign": "plus"}, {"skip": "raw"}, {"num_heads": 2}],
)
def test_the_authors_format_refuses_what_their_code_cannot_run(tmp_path: Path, arguments: dict) -> None:
    (key, value) = next(iter(arguments.items()))
    with pytest.raises(ConfigError, match=f"no {key}={value}"):
        save_authors_weights(tmp_path / "w.pt", tiny(**arguments))


def test_a_wrong_suffix_is_refused(tmp_path: Path, model: SSIU) -> None:
    with pytest.raises(OutputError, match=r"ends in \.safetensors"):
        save_weights(tmp_path / "w.pt", model)
    with pytest.raises(OutputError, match=r"ends in \.pt"):
        save_authors_weights(tmp_path / "w.safetensors", model)


# trunk and shipped weights


def test_the_trunk_comes_from_another_scale_and_the_tail_stays(tmp_path: Path) -> None:
    path = tmp_path / "x2.safetensors"
    save_weights(path, tiny(2))
    network, before, source = tiny(4, seed=1), tiny(4, seed=1).state_dict(), tiny(2).state_dict()
    load_trunk(network, path)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if name.startswith("tail.") else source[name]), name


def test_a_trunk_that_does_not_fit_is_refused_and_the_network_is_untouched(tmp_path: Path) -> None:
    path = tmp_path / "x2.pt"
    path.write_bytes(saved(missing(tiny(2).state_dict())))
    network = tiny(4, seed=1)
    with pytest.raises(BadInputError, match="2 missing"):
        load_trunk(network, path)
    save_weights(tmp_path / "x2.safetensors", tiny(2, moe=False))
    with pytest.raises(BadInputError, match="checkpoint moe=False, config moe=True"):
        load_trunk(network, tmp_path / "x2.safetensors")
    assert equal(network.state_dict(), tiny(4, seed=1).state_dict())


def test_shipped_weights_are_found_by_scale_ours_before_the_authors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: SSIU
) -> None:
    clone, package = tmp_path / "clone", tmp_path / "package"
    monkeypatch.setattr(weights_module, "SHIPPED", (clone, package))
    with pytest.raises(MissingInputError) as caught:
        load_model(2)
    for place in (clone / "SSIU_x2.safetensors", package / "SSIU_x2.safetensors", clone / "model_x2_290.pt"):
        assert str(place) in str(caught.value)
    clone.mkdir()
    save_authors_weights(clone / "model_x2_290.pt", tiny(seed=1))
    assert find_weights("SSUFSR", 2) == clone / "model_x2_290.pt"
    package.mkdir()
    save_weights(package / "SSIU_x2.safetensors", model)
    assert find_weights("SSUFSR", 2) == package / "SSIU_x2.safetensors"
    assert equal(load_model(2).state_dict(), model.state_dict())


def test_the_places_of_shipped_weights_are_the_clone_and_the_package() -> None:
    package = Path(weights_module.__file__).parent
    assert (package.parent / "pretrain_model", package / "pretrain_model") == weights_module.SHIPPED

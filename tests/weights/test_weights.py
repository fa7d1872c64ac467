"""Weights: every format gives the same tensors, and what is written can be read again."""

import json
import logging
import tempfile
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from faults import in_child, limit_file_size
from hostile import saved
from tiny import equal, tiny

from ssiu.config.load import make_config
from ssiu.errors import BadInputError, ConfigError, MissingInputError, NonFiniteError, OutputError
from ssiu.files import user_cache_folder
from ssiu.models.custom import build_custom
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.ssiu import SSIU
from ssiu.weights import shipped
from ssiu.weights.checkpoint import save_checkpoint, tensors_digest
from ssiu.weights.formats import read_weights, save_authors_weights, save_weights
from ssiu.weights.load import find_weights, load_configured, load_model, load_trunk, load_weights, network_of


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_copy_in_another_precision_is_converted_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: SSIU, kind: torch.dtype, suffix: str
) -> None:
    path = tmp_path / f"copy{suffix}"
    state = {name: tensor.to(kind) for name, tensor in model.state_dict().items()}
    path.write_bytes(saved(state) if suffix == ".pt" else safetensors.torch.save(state))
    expected = {name: tensor.float() for name, tensor in state.items()}
    network = tiny(seed=1)
    with caplog.at_level(logging.INFO, "ssiu"):
        load_weights(network, path)
        assert equal(network.state_dict(), expected) and equal(load_model(path).state_dict(), expected)
        load_trunk(network, path)
    assert caplog.text.count(f"converted exactly from {str(kind).removeprefix('torch.')}") == 3


def test_numbers_finer_than_the_networks_are_rounded_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, model: SSIU
) -> None:
    state = {name: tensor.double() / 3 for name, tensor in model.state_dict().items()}
    (tmp_path / "fine.pt").write_bytes(saved(state))
    with caplog.at_level(logging.INFO, "ssiu"):
        loaded = load_model(tmp_path / "fine.pt")
    assert equal(loaded.state_dict(), {name: tensor.float() for name, tensor in state.items()})
    assert "fine.pt, rounded from float64" in caplog.text


def test_tensors_stored_with_strides_are_read(tmp_path: Path, model: SSIU) -> None:
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    strided = {name: torch.stack([tensor, tensor], dim=-1)[..., 0] for name, tensor in state.items()}
    (tmp_path / "strided.pt").write_bytes(saved(strided))
    assert equal(load_model(tmp_path / "strided.pt").state_dict(), state)
    assert read_weights(tmp_path / "strided.pt").sha256 == tensors_digest(state)
    one = torch.zeros(1, 3, 9)[0, :1, 0]  # a single number whose stride is 9
    assert tensors_digest({"a": one}) == tensors_digest({"a": torch.zeros(1)})


def test_what_was_read_outlasts_its_file(tmp_path: Path, model: SSIU) -> None:
    """So the digest in a report is of the weights that were scored, also where training replaced the file meanwhile."""
    save_weights(tmp_path / "w.safetensors", model)
    weights = read_weights(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").unlink()
    config = make_config({"model": "SSIU", **model.arguments()})
    for loaded in (network_of(weights), network_of(weights, scale=2, model="SSIU"), load_configured(config, weights)):
        assert equal(loaded.state_dict(), model.state_dict())
        assert tensors_digest(loaded.state_dict()) == weights.sha256


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
    + [{"kind": IDSANet}, {"kind": IDSANet, "share_group": 2, "smu": "none", "scale": 3}]
    + [{"kind": IDSANet, "purification": "none"}, {"kind": IDSANet, "hybrid_attention": "none"}],
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
    path.write_bytes(saved({n: t for n, t in tiny(2).state_dict().items() if not n.startswith("stages.2.norm.")}))
    network = tiny(4, seed=1)
    with pytest.raises(BadInputError, match="2 missing"):
        load_trunk(network, path)
    save_weights(tmp_path / "x2.safetensors", tiny(2, moe=False))
    with pytest.raises(BadInputError, match="checkpoint moe=False, config moe=True"):
        load_trunk(network, tmp_path / "x2.safetensors")
    assert equal(network.state_dict(), tiny(4, seed=1).state_dict())


def test_of_a_custom_network_without_a_named_tail_the_trunk_is_what_fits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, scale):\n"
        "        super().__init__(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3 * scale**2, 1), nn.PixelShuffle(scale))\n"
    )
    x2, x4 = (build_custom(f"{tmp_path}/net.py:Net", scale, {}) for scale in (2, 4))
    tail = x4.state_dict()["1.weight"].clone()
    torch.save({"params": x2.state_dict()}, tmp_path / "x2.pth")
    with caplog.at_level("INFO", logger="ssiu"):
        load_trunk(x4, tmp_path / "x2.pth")
    assert torch.equal(x4.state_dict()["0.weight"], x2.state_dict()["0.weight"])
    assert torch.equal(x4.state_dict()["1.weight"], tail)
    assert "init_trunk leaves out 1.weight, 1.bias" in caplog.text and "loaded 2/4 tensors" in caplog.text
    torch.save({"params": {"body.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(BadInputError, match="no tensor in it fits net;"):
        load_trunk(x4, tmp_path / "other.pth")


def test_shipped_weights_are_found_by_scale_the_authors_before_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, model: SSIU
) -> None:
    clone, package = tmp_path / "clone", tmp_path / "package"
    monkeypatch.setattr(shipped, "SHIPPED", (clone, package))
    with pytest.raises(MissingInputError) as caught:
        load_model(2)
    for place in (clone / "SSIU_x2.safetensors", package / "SSIU_x2.safetensors", clone / "model_x2_290.pt"):
        assert str(place) in str(caught.value)
    clone.mkdir()
    save_weights(clone / "SSIU_x2.safetensors", tiny(seed=1))
    save_weights(clone / "IDSANet_x2.safetensors", tiny(kind=IDSANet))
    assert find_weights("SSUFSR", 2) == clone / "SSIU_x2.safetensors"
    package.mkdir()
    save_authors_weights(package / "model_x2_290.pt", model)
    assert find_weights("SSUFSR", 2) == package / "model_x2_290.pt"
    assert find_weights("IDSANet", 2) == clone / "IDSANet_x2.safetensors"
    with caplog.at_level(logging.INFO, "ssiu"):
        assert equal(load_model(2).state_dict(), model.state_dict())
    assert str(package / "model_x2_290.pt") in caplog.text


def test_a_shipped_file_is_found_by_its_name_in_any_folder_unless_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """README and docs write pretrain_model/SSIU_x2.safetensors, which must hold for an installed package, too."""
    package, here = tmp_path / "package", tmp_path / "here"
    monkeypatch.setattr(shipped, "SHIPPED", (tmp_path / "clone", package))
    for folder, seed in ((package, 1), (here, 2)):
        folder.mkdir()
        save_weights(folder / "SSIU_x2.safetensors", tiny(seed=seed))
    monkeypatch.chdir(tmp_path)
    for name in ("SSIU_x2.safetensors", "pretrain_model/SSIU_x2.safetensors"):
        assert read_weights(name).path == package / "SSIU_x2.safetensors"
        assert equal(load_model(name).state_dict(), tiny(seed=1).state_dict())
    monkeypatch.chdir(here)
    assert read_weights("SSIU_x2.safetensors").path == Path("SSIU_x2.safetensors"), "what is there comes first"
    for name in ("other/SSIU_x2.safetensors", here / "pretrain_model/SSIU_x2.safetensors", "SSIU_x3.safetensors"):
        with pytest.raises(MissingInputError):
            read_weights(name)


def test_the_places_of_shipped_weights_are_the_clone_the_package_and_the_users_cache() -> None:
    package = Path(shipped.__file__).parents[1]
    assert (package.parent / "pretrain_model", package / "pretrain_model") == shipped.SHIPPED[:2]
    assert shipped.SHIPPED[2:] == (user_cache_folder("weights"),)


def test_downloaded_weights_go_into_a_clone_or_else_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone, package, cache = (tmp_path / name for name in ("clone", "package", "cache"))
    monkeypatch.setattr(shipped, "SHIPPED", (clone, package, cache))
    package.mkdir()
    assert shipped.weights_folder() == cache
    clone.mkdir()
    assert shipped.weights_folder() == clone
    with pytest.raises(MissingInputError, match="python -m ssiu download weights"):
        find_weights("SSIU", 2)
    cache.mkdir()
    save_authors_weights(cache / "model_x2_290.pt", tiny())
    assert find_weights("SSIU", 2) == cache / "model_x2_290.pt"


def test_the_users_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/else/where")
    assert user_cache_folder("weights") == Path("/else/where/ssiu/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert user_cache_folder("weights") == Path("/home/me/.cache/ssiu/weights")


def test_a_user_without_a_home_has_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> None:
        raise RuntimeError("Could not determine home directory.")  # as for an id that is in no passwd

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    assert user_cache_folder("weights") == Path(tempfile.gettempdir()) / "ssiu/weights"

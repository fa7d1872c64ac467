"""Files of weights that are damaged, cut short, of another format, or known to have ended a command badly."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import ends_within
from hostile import hostile_files, saved
from tiny import Tensors, equal, tiny

import ssiu.export.onnx
from ssiu.cli import upscale as upscale_command
from ssiu.errors import BadInputError
from ssiu.images.io import save_image
from ssiu.models.base import SRNetwork
from ssiu.models.ssiu import SSIU
from ssiu.weights.formats import read_weights, save_authors_weights, save_weights


@pytest.fixture
def model() -> SSIU:
    return tiny()


KNOWN_FAULTS = {
    "dim64.pt": "tensor 'a' has 65 dimensions|fits none of",
    "fn_bomb.onnx": "lacks our metadata or defines functions",
    "fut_cfgstr.pt": "fits none of SSIU",
    "fut_list.pt": "fits none of SSIU",
    "fut_nomodel.pt": "entry 'step' is not a tensor",
    "hashbomb_setitems.pt": "is refused: it holds a nested tuple twice",
    "loop_1e15.onnx": "computes for more than 1 s on an image of 5x7 pixels",
    "s_dims.safetensors": "is refused: tensor 'a' has 70 dimensions",
    "s_dt_F8_E4M3.safetensors": "is refused: tensor 'a' is float8_e4m3fn; convert it",
    "strided_tensor.pth": "fits none of SSIU",
}


def test_files_that_once_hung_or_crashed_a_command_end_in_a_line(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssiu.export.onnx, "TRIAL_SECONDS", 1)
    folder = shared / "data/defects/weights"
    save_image(tmp_path / "lr.png", np.zeros((5, 7, 3), np.uint8))
    assert {path.name for path in folder.iterdir()} == KNOWN_FAULTS.keys()
    for name, reason in KNOWN_FAULTS.items():
        arguments = [str(tmp_path / "lr.png"), "--output", str(tmp_path / "sr.png"), "--weights", str(folder / name)]
        with ends_within(60), pytest.raises(BadInputError, match=reason) as refused:
            upscale_command.main(arguments)
        assert str(refused.value).isprintable() and name in str(refused.value)


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


class _Named(SRNetwork):
    """Any tensors, for `save_weights`."""

    def __init__(self, state: Tensors):
        super().__init__(2)
        self.state = state

    def state_dict(self) -> Tensors:
        return self.state


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

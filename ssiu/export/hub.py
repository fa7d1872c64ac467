"""A folder as the Hugging Face Hub wants it: weights, what they are, a card and sample images; and its upload."""

import json
from collections.abc import Sequence
from pathlib import Path

import skimage.data
import torch

from ssiu.errors import BusyError, ConfigError, first_line, quoted
from ssiu.export.folder import write_folder
from ssiu.images.bicubic import imresize
from ssiu.images.decoding import DecodedImage
from ssiu.images.encoding import encode
from ssiu.models.base import SRNetwork
from ssiu.weights.hub import USUAL, import_hub

SAMPLES = {"bicubic": "bicubic.png", "this network": "sr.png"}  # by title
SAMPLE = (slice(20, 260), slice(80, 440))  # rows and columns of skimage's photograph of a cat, which is under CC0


def export_hub(folder: Path, network: SRNetwork, weights: bytes, sha256: str, card: str) -> list[Path]:
    """Writes config.json, model.safetensors, README.md and two images into ``folder``; returns its files.

    ``weights`` are the content of the file and ``sha256`` is of its tensors; ``card`` shows `SAMPLES`. Nothing reads
    config.json here: weights say themselves what they are. Raises as `write_folder`.
    """
    known = {"library_name": "ssiu", "architectures": [network.architecture], "scale": network.scale}
    known |= {"arguments": network.arguments(), "tensors_sha256": sha256}
    files: dict[str, str | bytes] = {"config.json": json.dumps(known, indent=2) + "\n"}
    return write_folder(folder, files | {"README.md": card, USUAL: weights} | _samples(network))


def push(folder: Path, files: Sequence[Path], repository: str) -> str:
    """Uploads ``files`` of ``folder`` as a commit of ``repository``, which is made where need be; returns its address.

    Raises ConfigError (78) without a token that may write there, BusyError (75) where the hub does not take it.
    """
    hub = import_hub()
    api = hub.HfApi(library_name="ssiu")
    names = [file.relative_to(folder).as_posix() for file in files]
    try:
        api.create_repo(repository, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=names, commit_message="Upload by ssiu export hub"
        )
    except hub.errors.HFValidationError as error:
        raise ConfigError(f"--push {repository}: {quoted(first_line(error), 200)}") from None
    except Exception as error:  # sockets, TLS and HTTP have more kinds than anybody thought of
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise ConfigError(
                f"--push {repository}: {hub.constants.ENDPOINT} does not let you write there; hf auth login, with a "
                f"token that may write ({folder} is complete)"
            ) from None
        raise BusyError(
            f"--push {repository}: {hub.constants.ENDPOINT} did not take it ({quoted(first_line(error), 200)}); "
            f"{folder} is complete: try again later"
        ) from None
    return str(done.commit_url)


def _samples(network: SRNetwork) -> dict[str, bytes]:
    """A photograph, made smaller and enlarged again by bicubic interpolation and by ``network``, as PNG."""
    hr = skimage.data.chelsea()[SAMPLE]
    lr = imresize(hr, size=(hr.shape[0] // network.scale, hr.shape[1] // network.scale))
    with torch.no_grad():
        x = torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        sr = network(x)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()  # (sH, sW, 3)
    images = {"bicubic": imresize(lr, scale=network.scale), "this network": sr}
    return {SAMPLES[title]: b"".join(encode(DecodedImage(image), ".png")) for title, image in images.items()}

"""Runs a network over test sets and scores every image: what `test.py` and the validation in training share.

Three stages that work at the same time: images are read, super-resolved, and scored. In a process group every rank
takes its share of the images.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ssiu.config.values import MAX_NAME_BYTES
from ssiu.data.test_sets import BenchmarkSet
from ssiu.device import autocast_type
from ssiu.errors import BadInputError, NonFiniteError
from ssiu.evaluation.given import Given, sets_given
from ssiu.evaluation.metrics import PROTOCOLS, check_size, score, to_uint8
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.files import make_folder
from ssiu.images.io import save_image
from ssiu.images.parallel import cores, in_order
from ssiu.inference.at_once import each, images_at_once
from ssiu.inference.prepare import PreparedNetwork, prepare
from ssiu.inference.tiles import Tile, super_resolve
from ssiu.models.base import SRNetwork
from ssiu.progress import Progress

THREADS = max(cores() // 2, 1)  # that read, and as many that score


@dataclass(frozen=True)
class SRImage:
    """An image of a test set: LR and HR uint8 (h, w, 3) and (s h, s w, 3), and SR float (3, s h, s w), not clamped."""

    test_set: BenchmarkSet
    name: str
    lr: np.ndarray
    sr: Tensor
    hr: np.ndarray

    @property
    def key(self) -> str:
        """``Set5/baby``."""
        return f"{self.test_set.name}/{self.name}"


def evaluate(
    model: SRNetwork | PreparedNetwork | Callable[[Tensor], Tensor],
    test_sets: Given,
    *,
    precision: str = "fp32",
    tile: Tile = 0,
    self_ensemble: bool = False,
    protocols: Sequence[str] = PROTOCOLS,
    save_to: Path | None = None,
) -> Evaluation:
    """Upscales and scores every image of ``test_sets``; in a process group all ranks get the whole result.

    >>> hr = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1))
    >>> lr = hr[::2, ::2]
    >>> found = evaluate(lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3), [(lr, hr)])
    >>> round(found.mean("images").psnr, 2), found.images[0].scores["standard"] == found.mean("images")
    (38.48, True)

    Args:
        model: maps LR (1, 3, H, W) in [0, 1] to SR (1, 3, sH, sW); in eval mode, on the device where it is to run.
        test_sets: loaded sets, the folder of one, such as ``data/benchmark/Set5``, or (LR, HR) images, Pillow's or
            uint8 arrays (h, w, 3) or (h, w).
        tile, self_ensemble: see `super_resolve`.
        save_to: folder for the SR images, ``{set}/{name}_x{scale}.png``, clamped and rounded.

    Raises BadInputError (65) for an image that is damaged or too small to score, NonFiniteError (70) when the network
    puts out NaN or infinity, ConfigError (78) for a precision that is none, DeviceMemoryError (69).
    """
    sets = sets_given(test_sets, getattr(model, "scale", None))
    check_sets(sets, saved=save_to is not None)
    images = super_resolved(model, sets, precision=precision, tile=tile, self_ensemble=self_ensemble)
    return score_images(images, protocols, save_to)


def super_resolved(
    model: SRNetwork | PreparedNetwork | Callable[[Tensor], Tensor],
    test_sets: Sequence[BenchmarkSet],
    *,
    precision: str = "fp32",
    tile: Tile = 0,
    self_ensemble: bool = False,
) -> Generator[SRImage, None, None]:
    """This rank's share of the images, in order, while others are read. Arguments and errors as `evaluate`.

    One image is upscaled at a time, or as many as there are cores where the network may and the memory is enough, which
    is faster than all cores on one image. SR stays on a GPU, which scores in no time.
    """
    rank, world = _rank_and_world()
    jobs = [(test_set, index) for test_set in test_sets for index in range(len(test_set))][rank::world]
    network = prepare(model, autocast_type(precision))
    at_once = images_at_once(network, (math.prod(images.pairs[index].lr_size) for images, index in jobs), tile)
    if at_once > 1 and tile == "auto":
        tile = 0  # there is memory for that, and more of it than the next image would find free

    def read(job: tuple[BenchmarkSet, int]) -> tuple[BenchmarkSet, str, np.ndarray, np.ndarray]:
        test_set, index = job
        return test_set, *test_set[index]

    def upscale(image: tuple[BenchmarkSet, str, np.ndarray, np.ndarray]) -> SRImage:
        test_set, name, lr, hr = image
        x = torch.from_numpy(lr).to(network.device).permute(2, 0, 1)[None].float() / 255  # (1, 3, h, w)
        sr = super_resolve(network, x, tile, self_ensemble)[0].float()  # (3, s h, s w)
        if not sr.isfinite().all():
            raise NonFiniteError(
                f"{test_set.name}/{name}: the network's output has NaN or infinity in precision {precision}; "
                "use precision=fp32 or other weights"
            )
        return SRImage(test_set, name, lr, sr if sr.is_cuda else sr.cpu(), hr)

    with (
        closing(in_order(read, jobs, THREADS)) as pairs,
        closing(each(upscale, pairs, at_once)) as images,
        Progress(total=len(jobs), unit="images", leave=False, disable=rank > 0) as bar,
    ):
        for image in images:
            bar.set_postfix_str(image.key)
            yield image
            bar.update()


def score_images(
    images: Generator[SRImage, None, None], protocols: Sequence[str] = PROTOCOLS, save_to: Path | None = None
) -> Evaluation:
    """Scores, and saves, every image while the next ones are made; every rank gets the results of all."""

    def finished(image: SRImage) -> ImageResult:
        scale = image.test_set.scale
        if save_to:
            file = save_to / image_file(image.test_set.name, image.name, scale)
            make_folder(file.parent)
            save_image(file, to_uint8(image.sr))
        scores = {protocol: score(image.sr, image.hr, scale, protocol) for protocol in protocols}
        return ImageResult(image.test_set.name, image.name, image.hr.shape[1], image.hr.shape[0], scores)

    with closing(images), closing(in_order(finished, images, THREADS)) as results:
        return Evaluation(_gathered(list(results)), tuple(protocols))


def check_sets(test_sets: Sequence[BenchmarkSet], saved: bool) -> None:
    """Raises BadInputError (65) for an image too small to score, or with a name that no report can hold.

    Also for a name that is too long where the SR images are ``saved``.
    """
    for test_set in test_sets:
        for pair in test_set.pairs:
            try:
                height, width = pair.lr_size
                check_size(test_set.scale * height, test_set.scale * width, test_set.scale)
                pair.name.encode()
                size = len(Path(image_file(test_set.name, pair.name, test_set.scale)).name.encode())
                if saved and size > MAX_NAME_BYTES:
                    raise BadInputError(
                        f"the name is too long: its SR image, NAME_x{test_set.scale}.png, would have {size} bytes, "
                        f"and {MAX_NAME_BYTES} are the most; rename it, or set save_image=false"
                    )
            except BadInputError as error:
                raise BadInputError(f"{test_set.name}/{pair.name}: {error}") from None
            except UnicodeEncodeError:
                raise BadInputError(f"{test_set.name}/{pair.name!a}: the file name is not UTF-8; rename it") from None


def image_file(set_name: str, name: str, scale: int) -> str:
    """Where an SR image lies in the ``save_to`` of `evaluate`."""
    return f"{set_name}/{name}_x{scale}.png"


def _rank_and_world() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _gathered(images: list[ImageResult]) -> list[ImageResult]:
    """All ranks' images in the order of one process: rank r had every ``world``-th from the r-th on."""
    _, world = _rank_and_world()
    if world == 1:
        return images
    shares: list[list[ImageResult]] = [[] for _ in range(world)]
    dist.all_gather_object(shares, images)
    return [shares[job % world][job // world] for job in range(sum(map(len, shares)))]

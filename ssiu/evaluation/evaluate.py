"""Runs a network over test sets and scores every image: what `test.py` and the validation in training share."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ssiu.config.schema import MAX_NAME_BYTES
from ssiu.data.test_sets import BenchmarkSet
from ssiu.device import autocast_type
from ssiu.errors import BadInputError, NonFiniteError
from ssiu.evaluation.metrics import PROTOCOLS, check_size, score, to_uint8
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.files import make_folder
from ssiu.images.io import save_image
from ssiu.images.parallel import cores
from ssiu.inference.at_once import each, images_at_once
from ssiu.inference.prepare import PreparedNetwork, prepare
from ssiu.inference.tiles import Tile, super_resolve
from ssiu.models.base import SRNetwork
from ssiu.progress import Progress

AHEAD = max(cores(), 2)  # images read before, and scored after, the network's


def evaluate(
    model: SRNetwork | PreparedNetwork | Callable[[Tensor], Tensor],
    test_sets: Sequence[BenchmarkSet],
    *,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    tile: Tile = 0,
    self_ensemble: bool = False,
    protocols: Sequence[str] = PROTOCOLS,
    save_to: Path | None = None,
    look: Callable[[BenchmarkSet, int, np.ndarray, Tensor, np.ndarray], None] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Upscales and scores every image of ``test_sets``.

    The network runs on ``device`` in ``precision``; one image at a time, or as many as there are cores where it may
    and the memory is enough, which is faster than all cores on one image. Meanwhile others are read, scored
    (`standard` on a GPU where there is one) and saved. In a process group every rank takes its share and all ranks get
    the whole result.

    Args:
        model: maps LR (1, 3, H, W) in [0, 1] to SR (1, 3, sH, sW); in eval mode and on ``device``.
        tile, self_ensemble: see `super_resolve`.
        save_to: folder for the SR images, ``{set}/{name}_x{scale}.png``, clamped and rounded.
        look: is shown every image of this rank in turn: its set and index, LR uint8, SR (3, sH, sW) float, HR uint8.

    Raises BadInputError (65) for an image that is damaged or too small to score, NonFiniteError (70) when the network
    puts out NaN or infinity, ConfigError (78) for a precision that is none, DeviceMemoryError (69).
    """
    check_sets(test_sets, saved=save_to is not None)
    if save_to:
        for test_set in test_sets:
            files = (save_to / image_file(test_set.name, pair.name, test_set.scale) for pair in test_set.pairs)
            for folder in {file.parent for file in files}:
                make_folder(folder)
    together = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    jobs = [(test_set, index) for test_set in test_sets for index in range(len(test_set))][rank::world]
    network = prepare(model, autocast_type(precision))
    at_once = images_at_once(network, (math.prod(images.pairs[index].lr_size) for images, index in jobs), tile)
    if at_once > 1 and tile == "auto":
        tile = 0  # there is memory for that, and more of it than the next image would find free

    def upscale(image: tuple[str, np.ndarray, np.ndarray]) -> tuple[str, np.ndarray, Tensor, np.ndarray]:
        name, lr, hr = image
        x = torch.from_numpy(lr).to(device).permute(2, 0, 1)[None].float() / 255  # (1, 3, h, w)
        sr = super_resolve(network, x, tile, self_ensemble)[0].float()  # (3, s h, s w)
        return name, lr, sr if sr.is_cuda else sr.cpu(), hr  # a GPU has float64 and scores in no time

    def finish(test_set: BenchmarkSet, name: str, sr: Tensor, hr: np.ndarray) -> ImageResult:
        if save_to:
            save_image(save_to / image_file(test_set.name, name, test_set.scale), to_uint8(sr))
        scores = {protocol: score(sr, hr, test_set.scale, protocol) for protocol in protocols}
        return ImageResult(test_set.name, name, hr.shape[1], hr.shape[0], scores)

    results: list[Future[ImageResult]] = []
    with (
        ThreadPoolExecutor(AHEAD) as pool,
        closing(each(upscale, _read_ahead(pool, jobs), at_once)) as upscaled,
        Progress(total=len(jobs), unit="images", leave=False, disable=not progress or rank > 0) as bar,
    ):
        for (test_set, index), (name, lr, sr, hr) in zip(jobs, upscaled, strict=True):
            bar.set_postfix_str(f"{test_set.name}/{name}")
            if not sr.isfinite().all():
                raise NonFiniteError(
                    f"{test_set.name}/{name}: the network puts out NaN or infinity in precision {precision}; "
                    "use precision=fp32 or other weights"
                )
            results.append(pool.submit(finish, test_set, name, sr, hr))
            if look:
                look(test_set, index, lr, sr, hr)
            if len(results) > AHEAD:
                results[-AHEAD - 1].result()
            bar.update()
        images = [result.result() for result in results]
    return Evaluation(_gather(images, world), tuple(protocols))


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
                        f"the name is too long: that of its SR image, with _x{test_set.scale}.png, would have {size} "
                        f"bytes and may have {MAX_NAME_BYTES}; rename it, or set save_image=false"
                    )
            except BadInputError as error:
                raise BadInputError(f"{test_set.name}/{pair.name}: {error}") from None
            except UnicodeEncodeError:
                raise BadInputError(f"{test_set.name}/{pair.name!a}: the file name is not UTF-8; rename it") from None


def image_file(set_name: str, name: str, scale: int) -> str:
    """Where an SR image lies in the ``save_to`` of `evaluate`."""
    return f"{set_name}/{name}_x{scale}.png"


def _read_ahead(pool: ThreadPoolExecutor, jobs: list[tuple[BenchmarkSet, int]]) -> Iterator[tuple]:
    """(name, LR, HR) of every job, read a little before it is asked for."""
    reading: list[Future] = []
    for test_set, index in jobs:
        reading.append(pool.submit(test_set.__getitem__, index))
        if len(reading) > AHEAD:
            yield reading.pop(0).result()
    for image in reading:
        yield image.result()


def _gather(images: list[ImageResult], world: int) -> list[ImageResult]:
    """All ranks' images in the order of one process: rank r had every ``world``-th from the r-th on."""
    if world == 1:
        return images
    shares: list[list[ImageResult]] = [[] for _ in range(world)]
    dist.all_gather_object(shares, images)
    return [shares[job % world][job // world] for job in range(sum(map(len, shares)))]

"""The training stream: sample number g of a run is a pure function of (seed, g).

With N samples in an epoch, sample g belongs to epoch g // N and stands at position g % N. A permutation keyed by (seed,
epoch) says which image is visited there, so each comes exactly data_repeat times an epoch (`ssiu.data.order` has the
shares of several sets); crop and orientation are keyed by (seed, epoch, position). Batches run across epoch ends. The
stream therefore does not depend on the number of workers, ranks or restarts, and resuming needs only the step.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch

from ssiu.data.loader import PatchLoader
from ssiu.data.order import mix, samples_of_sets, visits
from ssiu.data.stream import Batch
from ssiu.data.training_set import TrainingSet
from ssiu.errors import ConfigError


def orient(patch: np.ndarray, orientation: int) -> np.ndarray:
    """One of the eight flips and rotations of a patch (3, h, w), as a view."""
    if orientation & 1:
        patch = patch[:, ::-1]
    if orientation & 2:
        patch = patch[:, :, ::-1]
    return patch.swapaxes(1, 2) if orientation & 4 else patch


class PatchStream:
    """Aligned LR and HR patches of ``sets``, without end.

    Args:
        sets: the training sets; none has an image that is smaller than a patch.
        scale: HR side / LR side.
        patch_size: side of the HR patch, a multiple of ``scale``.
        batch_size: samples in a micro-batch, over all ranks together.
        shares: of each set in the samples, any positive numbers; without, as many as its images have visits.
        data_repeat: visits of each image in an epoch.
        augment: apply one of the eight orientations.
        seed: of everything random.

    Raises ConfigError (78) for a patch_size that does not fit the scale, or a share too small for one sample an epoch.
    """

    def __init__(
        self,
        sets: Sequence[TrainingSet],
        scale: int,
        patch_size: int,
        batch_size: int,
        shares: Sequence[float] | None = None,
        data_repeat: int = 1,
        augment: bool = True,
        seed: int = 0,
    ):
        if patch_size % scale:
            raise ConfigError(f"key 'patch_size': {patch_size} is not a multiple of scale {scale}")
        self.sets, self.scale, self.patch_size, self.batch_size = sets, scale, patch_size, batch_size
        self.augment, self.seed = augment, seed
        self.images = tuple(map(len, sets))
        self.samples = samples_of_sets(self.images, data_repeat, shares)
        self._first = list(accumulate(self.images[:-1], initial=0))  # the number of each set's first image
        if unseen := [each.name for each, samples in zip(sets, self.samples, strict=True) if not samples]:
            raise ConfigError(
                f"key 'training_dataset': the share of {unseen[0]} is less than one of the {sum(self.samples)} samples "
                "of an epoch; raise it, or leave the set out"
            )

    @property
    def samples_per_epoch(self) -> int:
        """N = images * data_repeat."""
        return sum(self.samples)

    @property
    def manifest(self) -> str:
        """The digest of the only set, or over those of all: a resumed run can see that the data changed."""
        digests = [each.digest for each in self.sets]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def image_index(self, g: int) -> int:
        """Number of the image that sample ``g`` shows, counted through all sets."""
        epoch, position = divmod(g, self.samples_per_epoch)
        return int(visits(self.seed, epoch, self.images, self.samples)[position])

    def image(self, g: int) -> tuple[TrainingSet, int]:
        """The set of the image that sample ``g`` shows, and its index there."""
        index = self.image_index(g)
        number = bisect_right(self._first, index) - 1
        return self.sets[number], index - self._first[number]

    def place(self, g: int) -> tuple[int, int, int]:
        """(top, left, orientation) of sample ``g``: LR pixels, and 0-7."""
        epoch, position = divmod(g, self.samples_per_epoch)
        key = mix(mix(mix(mix(self.seed) ^ epoch) + 1) ^ position)
        images, index = self.image(g)
        height, width = images.lr_size(index)
        side = self.patch_size // self.scale
        top, left = mix(key ^ 1) % (height - side + 1), mix(key ^ 2) % (width - side + 1)
        return top, left, mix(key ^ 3) % 8 if self.augment else 0

    def _write(self, g: int, lr: np.ndarray, hr: np.ndarray) -> None:
        """Writes sample ``g`` into ``lr`` (3, p/s, p/s) and ``hr`` (3, p, p)."""
        (images, index), (top, left, orientation) = self.image(g), self.place(g)
        for pixels, target, scale in zip(images.open(index), (lr, hr), (1, self.scale), strict=True):
            y, x, side = top * scale, left * scale, target.shape[1]
            target[:] = orient(pixels[:, y : y + side, x : x + side], orientation)

    def empty_batch(self, world: int = 1) -> Batch:
        """Uninitialised tensors for one rank's share of a micro-batch."""
        images, side = self.batch_size // world, self.patch_size // self.scale
        lr = torch.empty((images, 3, side, side), dtype=torch.uint8)
        return lr, torch.empty((images, 3, self.patch_size, self.patch_size), dtype=torch.uint8)

    def fill(self, m: int, rank: int, world: int, lr: torch.Tensor, hr: torch.Tensor) -> None:
        """Writes rank ``rank``'s share of micro-batch ``m`` into ``lr`` and ``hr``."""
        for i, g in enumerate(self._samples(m, rank, world)):
            self._write(g, lr[i].numpy(), hr[i].numpy())

    def batch(self, m: int, rank: int = 0, world: int = 1) -> Batch:
        """Rank ``rank``'s share of micro-batch ``m``: (lr, hr), uint8 (b, 3, p/s, p/s) and (b, 3, p, p).

        Micro-batch m holds samples m * batch_size ...; each rank takes b = batch_size / world consecutive ones.
        """
        lr, hr = self.empty_batch(world)
        self.fill(m, rank, world, lr, hr)
        return lr, hr

    def sample(self, g: int) -> Batch:
        """Sample ``g`` of the run: (lr, hr), uint8 (3, p/s, p/s) and (3, p, p)."""
        lr, hr = (tensor[0] for tensor in self.empty_batch(self.batch_size))
        self._write(g, lr.numpy(), hr.numpy())
        return lr, hr

    def _samples(self, m: int, rank: int, world: int) -> range:
        share = self.batch_size // world
        first = m * self.batch_size + rank * share
        return range(first, first + share)

    def names(self, m: int, rank: int = 0, world: int = 1) -> list[str]:
        """Names of the images in rank ``rank``'s share of micro-batch ``m``, each after that of its set."""
        shown = map(self.image, self._samples(m, rank, world))
        return [f"{images.name}/{images.pairs.names[index]}" for images, index in shown]

    def __str__(self) -> str:
        """``df2k (3,450 images, 67% of the samples), lsdir (84,991 images, 33% of the samples)``."""
        return ", ".join(
            f"{each.name} ({len(each):,} images, {samples / self.samples_per_epoch:.0%} of the samples)"
            for each, samples in zip(self.sets, self.samples, strict=True)
        )

    def loader(
        self, start: int, stop: int, rank: int = 0, world: int = 1, threads: int = 0, pin_memory: bool = False
    ) -> PatchLoader:
        """Micro-batches ``start`` to ``stop - 1`` in order, prepared by ``threads`` processes (0: in this one)."""
        if self.batch_size % world:
            raise ConfigError(f"key 'batch_size': {self.batch_size} cannot be split evenly over {world} processes")
        if threads:
            self.image_index(start * self.batch_size)  # workers that are forked share the order of this epoch
        return PatchLoader(self, start, stop, rank, world, threads, pin_memory)

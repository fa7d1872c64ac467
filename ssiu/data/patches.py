"""The training stream: sample number g of a run is a pure function of (seed, g).

With N = images * data_repeat positions in an epoch, sample g belongs to epoch g // N and stands at position
g % N. A permutation keyed by (seed, epoch) says which image is visited there, so each comes exactly data_repeat
times an epoch; crop and orientation are keyed by (seed, epoch, position). Batches run across epoch ends. The stream
therefore does not depend on the number of workers, ranks or restarts, and resuming needs only the step.

Random numbers come from the SplitMix64 finaliser used as a hash: no state, and the same in every NumPy version.
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch

from ssiu.data.cache import ImageCache
from ssiu.data.loader import PatchLoader
from ssiu.data.pairs import Pair
from ssiu.data.stream import Batch
from ssiu.errors import BadInputError, ConfigError, MissingInputError, first_names

WORD = 2**64 - 1


def _mix(x: int) -> int:
    """SplitMix64: a 64-bit hash of a 64-bit number."""
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def _mix_array(x: np.ndarray) -> np.ndarray:
    """`_mix` of every element of a uint64 array."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@lru_cache(maxsize=2)  # this epoch's and, at its end, the next one's
def _visits(seed: int, epoch: int, images: int, repeat: int) -> np.ndarray:
    """The image visited at each position of an epoch, int64 (images * repeat,): sorted by random keys."""
    key = np.uint64(_mix(_mix(_mix(seed) ^ epoch)))
    order = np.argsort(_mix_array(key ^ np.arange(images * repeat, dtype=np.uint64)), kind="stable")
    return order % images


def orient(patch: np.ndarray, orientation: int) -> np.ndarray:
    """One of the eight flips and rotations of a patch (3, h, w), as a view."""
    if orientation & 1:
        patch = patch[:, ::-1]
    if orientation & 2:
        patch = patch[:, :, ::-1]
    return patch.swapaxes(1, 2) if orientation & 4 else patch


class PatchStream:
    """Aligned LR and HR patches of ``pairs``, without end.

    Args:
        pairs: the training images, as `find_pairs` returns them (or a part of them).
        scale: HR side / LR side.
        patch_size: side of the HR patch, a multiple of ``scale``.
        batch_size: samples in a micro-batch, over all ranks together.
        cache: where the decoded images are; filled here where they are not.
        data_repeat: visits of each image in an epoch.
        augment: apply one of the eight orientations.
        seed: of everything random.

    Raises ConfigError (78) for a patch_size that does not fit the scale, MissingInputError (66) without pairs,
    BadInputError (65) for images smaller than a patch or damaged, and what `ImageCache.prepare` raises.
    """

    def __init__(
        self,
        pairs: list[Pair],
        scale: int,
        patch_size: int,
        batch_size: int,
        cache: ImageCache,
        data_repeat: int = 1,
        augment: bool = True,
        seed: int = 0,
    ):
        if patch_size % scale:
            raise ConfigError(f"key 'patch_size': {patch_size} is not a multiple of scale {scale}")
        if not pairs:
            raise MissingInputError("the training set has no images")
        small = [pair.name for pair in pairs if min(pair.lr_size) * scale < patch_size]
        if small:
            raise BadInputError(
                f"{len(small)} of {len(pairs)} training images are smaller than patch_size {patch_size}: "
                f"{first_names(small, 10)}; remove them or choose a smaller patch_size"
            )
        self.scale, self.patch_size, self.batch_size = scale, patch_size, batch_size
        self.data_repeat, self.augment, self.seed = data_repeat, augment, seed
        self.image_names = [pair.name for pair in pairs]
        cached = cache.prepare([path for pair in pairs for path in (pair.lr, pair.hr)])
        self.lr, self.hr = cached[0::2], cached[1::2]

    @property
    def samples_per_epoch(self) -> int:
        """N = images * data_repeat."""
        return len(self.lr) * self.data_repeat

    @property
    def manifest(self) -> str:
        """SHA-256 over names, sizes and file contents of all pairs: a resumed run can see that the data changed."""
        lines = [
            f"{name} {(*image.shape[1:], 3)} {image.source_sha256}\n"
            for name, *pair in zip(self.image_names, self.lr, self.hr, strict=True)
            for image in pair
        ]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def image_index(self, g: int) -> int:
        """Index of the image that sample ``g`` shows."""
        epoch, position = divmod(g, self.samples_per_epoch)
        return int(_visits(self.seed, epoch, len(self.lr), self.data_repeat)[position])

    def place(self, g: int) -> tuple[int, int, int]:
        """(top, left, orientation) of sample ``g``: LR pixels, and 0-7."""
        epoch, position = divmod(g, self.samples_per_epoch)
        key = _mix(_mix(_mix(_mix(self.seed) ^ epoch) + 1) ^ position)
        _, height, width = self.lr[self.image_index(g)].shape
        side = self.patch_size // self.scale
        top, left = _mix(key ^ 1) % (height - side + 1), _mix(key ^ 2) % (width - side + 1)
        return top, left, _mix(key ^ 3) % 8 if self.augment else 0

    def _write(self, g: int, lr: np.ndarray, hr: np.ndarray) -> None:
        """Writes sample ``g`` into ``lr`` (3, p/s, p/s) and ``hr`` (3, p, p)."""
        index, (top, left, orientation) = self.image_index(g), self.place(g)
        for image, target, scale in ((self.lr[index], lr, 1), (self.hr[index], hr, self.scale)):
            y, x, side = top * scale, left * scale, target.shape[1]
            target[:] = orient(image.open()[:, y : y + side, x : x + side], orientation)

    def empty_batch(self, world: int = 1) -> Batch:
        """Uninitialised tensors for one rank's share of a micro-batch."""
        shape, sides = (self.batch_size // world, 3), (self.patch_size // self.scale, self.patch_size)
        return tuple(torch.empty((*shape, side, side), dtype=torch.uint8) for side in sides)

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
        """Names of the images in rank ``rank``'s share of micro-batch ``m``."""
        return [self.image_names[self.image_index(g)] for g in self._samples(m, rank, world)]

    def loader(
        self, start: int, stop: int, rank: int = 0, world: int = 1, threads: int = 0, pin_memory: bool = False
    ) -> PatchLoader:
        """Micro-batches ``start`` to ``stop - 1`` in order, prepared by ``threads`` processes (0: in this one)."""
        if self.batch_size % world:
            raise ConfigError(f"key 'batch_size': {self.batch_size} cannot be split evenly over {world} processes")
        return PatchLoader(self, start, stop, rank, world, threads, pin_memory)

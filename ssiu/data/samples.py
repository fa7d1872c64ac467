"""A training stream of numbered samples, whatever they are made from: which sample a batch holds, and its loaders.

With N samples in an epoch, sample g of a run belongs to epoch g // N and stands at position g % N. A permutation keyed
by (seed, epoch) says which image is visited there, so each comes exactly data_repeat times an epoch (`ssiu.data.order`
has the shares of several sets). Batches run across epoch ends. The stream therefore does not depend on the number of
workers, ranks or restarts, and resuming needs only the step.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from ssiu.data.loader import PatchLoader
from ssiu.data.order import mix, visits
from ssiu.data.stream import Batch
from ssiu.errors import ConfigError


class SampleStream(ABC):
    """Samples of pairs without end, each LR (3, h, w) and HR (3, H, W) of the same sizes and type.

    Args:
        images: how many images each set has.
        samples: how many samples of each set make an epoch.
        shapes: of LR and of HR.
        dtype: of both: uint8, or float32 in [0, 1].
        batch_size: samples in a micro-batch, over all ranks together.
        seed: of everything random.
    """

    def __init__(
        self,
        images: Sequence[int],
        samples: Sequence[int],
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        batch_size: int,
        seed: int,
        dtype: torch.dtype = torch.uint8,
    ):
        self.images, self.samples, self.shapes = tuple(images), tuple(samples), shapes
        self.batch_size, self.seed, self.dtype = batch_size, seed, dtype

    @property
    @abstractmethod
    def manifest(self) -> str:
        """A digest: a resumed run can see that the data changed."""

    @abstractmethod
    def name_of(self, g: int) -> str:
        """What sample ``g`` is called in a report."""

    @abstractmethod
    def write(self, g: int, lr: np.ndarray, hr: np.ndarray) -> None:
        """Writes sample ``g`` into ``lr`` and ``hr``."""

    @property
    def samples_per_epoch(self) -> int:
        """N = images * data_repeat."""
        return sum(self.samples)

    def image_index(self, g: int) -> int:
        """Number of the image that sample ``g`` shows, counted through all sets."""
        epoch, position = divmod(g, self.samples_per_epoch)
        return int(visits(self.seed, epoch, self.images, self.samples)[position])

    def key(self, g: int) -> int:
        """64 random bits of sample ``g``, from which everything that is drawn for it follows."""
        epoch, position = divmod(g, self.samples_per_epoch)
        return mix(mix(mix(mix(self.seed) ^ epoch) + 1) ^ position)

    def empty_batch(self, world: int = 1) -> Batch:
        """Uninitialised tensors for one rank's share of a micro-batch."""
        lr, hr = (torch.empty((self.batch_size // world, *shape), dtype=self.dtype) for shape in self.shapes)
        return lr, hr

    def fill(self, m: int, rank: int, world: int, lr: torch.Tensor, hr: torch.Tensor) -> None:
        """Writes rank ``rank``'s share of micro-batch ``m`` into ``lr`` and ``hr``."""
        for i, g in enumerate(self._samples(m, rank, world)):
            self.write(g, lr[i].numpy(), hr[i].numpy())

    def batch(self, m: int, rank: int = 0, world: int = 1) -> Batch:
        """Rank ``rank``'s share of micro-batch ``m``: (lr, hr), (b, 3, h, w) and (b, 3, H, W).

        Micro-batch m holds samples m * batch_size ...; each rank takes b = batch_size / world consecutive ones.
        """
        lr, hr = self.empty_batch(world)
        self.fill(m, rank, world, lr, hr)
        return lr, hr

    def sample(self, g: int) -> Batch:
        """Sample ``g`` of the run: (lr, hr), (3, h, w) and (3, H, W)."""
        lr, hr = (tensor[0] for tensor in self.empty_batch(self.batch_size))
        self.write(g, lr.numpy(), hr.numpy())
        return lr, hr

    def _samples(self, m: int, rank: int, world: int) -> range:
        share = self.batch_size // world
        first = m * self.batch_size + rank * share
        return range(first, first + share)

    def names(self, m: int, rank: int = 0, world: int = 1) -> list[str]:
        """Names of the samples in rank ``rank``'s share of micro-batch ``m``."""
        return list(map(self.name_of, self._samples(m, rank, world)))

    def loader(
        self, start: int, stop: int, rank: int = 0, world: int = 1, threads: int = 0, pin_memory: bool = False
    ) -> PatchLoader:
        """Micro-batches ``start`` to ``stop - 1`` in order, prepared by ``threads`` processes (0: in this one)."""
        if self.batch_size % world:
            raise ConfigError(f"key 'batch_size': {self.batch_size} cannot be split evenly over {world} processes")
        if threads:
            self.image_index(start * self.batch_size)  # workers that are forked share the order of this epoch
        return PatchLoader(self, start, stop, rank, world, threads, pin_memory)

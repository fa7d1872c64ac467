"""What the trainer asks of its training data, and the loader of what makes batches: `PatchStream` is both."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

Batch = tuple[Tensor, Tensor]
"""LR and HR patches, (b, 3, h, w) and (b, 3, sh, sw), uint8 or floats in [0, 1]."""


class BatchSource(Protocol):
    """Makes micro-batch m of a run, always the same one for the same m; used by several processes at once."""

    def batch(self, m: int, rank: int, world: int) -> Batch:
        """Rank ``rank``'s share of micro-batch ``m``."""

    def empty_batch(self, world: int) -> Batch:
        """Uninitialised uint8 tensors for one rank's share."""

    def fill(self, m: int, rank: int, world: int, lr: Tensor, hr: Tensor) -> None:
        """Writes rank ``rank``'s share of micro-batch ``m`` into ``lr`` and ``hr``."""


class TrainingData(Protocol):
    """Training data of any kind, for ``Trainer(config, stream=...)``."""

    @property
    def samples_per_epoch(self) -> int:
        """Samples that make an epoch of the schedule."""

    @property
    def manifest(self) -> str:
        """A digest of the data: a run only resumes on what it was trained on."""

    def loader(self, start: int, stop: int, rank: int, world: int, threads: int, pin_memory: bool) -> Iterable[Batch]:
        """Rank ``rank``'s shares of the micro-batches ``start`` to ``stop - 1``, in order."""

    def names(self, m: int) -> list[str]:
        """Names of the samples of micro-batch ``m``, for the report on a loss that is not finite."""

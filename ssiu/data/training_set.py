"""One training set: the names, sizes and pixels of its pairs, and a digest that tells it from any other."""

import hashlib

import numpy as np

from ssiu.data.cache import ImageCache, Source
from ssiu.data.pairs import Pair
from ssiu.errors import BadInputError, MissingInputError, first_names


def sources(pair: Pair, scale: int) -> tuple[Source, Source]:
    """What its LR and HR pixels come from."""
    return Source(pair.lr) if pair.lr else Source(pair.hr, scale), Source(pair.hr)


class TrainingSet:
    """The pairs of a set, decoded into ``cache`` where they are not there yet.

    Raises MissingInputError (66) without pairs, BadInputError (65) for images smaller than a patch, and what
    `ImageCache.prepare` raises.
    """

    def __init__(self, name: str, pairs: list[Pair], scale: int, cache: ImageCache, patch_size: int = 0):
        self.name = name
        if not pairs:
            raise MissingInputError(f"the training set {name} has no images")
        small = [pair.name for pair in pairs if min(pair.lr_size) * scale < patch_size]
        if small:
            raise BadInputError(
                f"{len(small)} of {len(pairs)} images of {name} are smaller than patch_size {patch_size}: "
                f"{first_names(small, 10)}; remove them or choose a smaller patch_size"
            )
        self.names = [pair.name for pair in pairs]
        cached = cache.prepare([source for pair in pairs for source in sources(pair, scale)])
        self.lr, self.hr = cached[0::2], cached[1::2]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digest(self) -> str:
        """SHA-256 over names, sizes and file contents of all pairs: a resumed run can see that the data changed."""
        lines = [
            f"{name} {(*image.shape[1:], 3)} {image.source_sha256}\n"
            for name, *pair in zip(self.names, self.lr, self.hr, strict=True)
            for image in pair
        ]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def lr_size(self, index: int) -> tuple[int, int]:
        """(height, width) of an LR image."""
        return self.lr[index].shape[1:]

    def open(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of a pair, uint8 (3, h, w) and (3, H, W)."""
        return self.lr[index].open(), self.hr[index].open()

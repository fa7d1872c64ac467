"""One training set: the names, sizes and pixels of its pairs, and a digest that tells it from any other."""

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from ssiu.data.cache import MAPPED_IMAGES, CachedImage, ImageCache, Source
from ssiu.data.pairs import Pairs
from ssiu.errors import BadInputError, MissingInputError, first_names
from ssiu.images.parallel import in_parallel


class TrainingSet:
    """The pairs of a set, decoded into ``cache``: all of them here, or of a large set each when it is first visited.

    So it is of a small set, too, where the cache is bounded. Only what is needed of 100,000 pairs is kept.

    Raises MissingInputError (66) without pairs, BadInputError (65) for images smaller than a patch, and what
    `ImageCache.prepare` or `ImageCache.begin_visits` raises.
    """

    def __init__(self, name: str, pairs: Pairs, scale: int, cache: ImageCache, patch_size: int = 0):
        if not pairs:
            raise MissingInputError(f"the training set {name} has no images")
        small = np.flatnonzero(pairs.sizes[:, 0].min(axis=1) * scale < patch_size)
        if len(small):
            names = first_names((pairs.names[each] for each in small.tolist()), 10)
            raise BadInputError(
                f"{len(small)} of {len(pairs)} images of {name} are smaller than patch_size {patch_size}: {names}; "
                "remove them or choose a smaller patch_size"
            )
        self.name, self.pairs, self.scale, self.cache = name, pairs, scale, cache
        self.prepared: list[CachedImage] = []  # LR and HR in turn
        self.sizes = pairs.sizes  # (n, 2, 2): of LR and HR, height and width
        if pairs.large or cache.bounded:
            cache.begin_visits(3 * int(pairs.sizes.prod(axis=2).sum()))
        else:
            self.prepared = cache.prepare([source for index in range(len(pairs)) for source in self.sources(index)])
            self.sizes = np.array([image.shape[1:] for image in self.prepared]).reshape(-1, 2, 2)
        self.digest = self._digest_of_headers() if pairs.large else self._digest_of_contents()

    def __len__(self) -> int:
        return len(self.pairs)

    def sources(self, index: int) -> tuple[Source, Source]:
        """What the LR and HR pixels of a pair come from."""
        hr = Path(self.pairs.hr_files[index])
        return Source(Path(self.pairs.lr_files[index])) if self.pairs.lr_files else Source(hr, self.scale), Source(hr)

    def _digest_of_contents(self) -> str:
        """SHA-256 over names, sizes and file contents of all pairs: a resumed run can see that the data changed."""
        digests = [image.source_sha256 for image in self.prepared]
        if not digests:
            files = [source.path for index in range(len(self)) for source in self.sources(index)]
            digests = list(in_parallel(lambda path: hashlib.sha256(path.read_bytes()).hexdigest(), files, "reading"))
        sizes = self.sizes.reshape(-1, 2).tolist()
        lines = [
            f"{self.pairs.names[row // 2]} ({height}, {width}, 3) {digest}\n"
            for row, ((height, width), digest) in enumerate(zip(sizes, digests, strict=True))
        ]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def _digest_of_headers(self) -> str:
        """The same over names, file sizes and sizes in pixels: of a large set nothing else is read."""
        digest = hashlib.sha256("\n".join(self.pairs.names).encode("utf-8", "surrogateescape"))
        for numbers in (self.sizes, self.pairs.bytes):
            digest.update(numbers.astype("<i8").tobytes())
        return digest.hexdigest()

    def open(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of a pair, uint8 (3, h, w) and (3, H, W); errors as `ImageCache.visit`."""
        if self.prepared:
            return self.prepared[2 * index].open(), self.prepared[2 * index + 1].open()
        return self.visit(index) if self.cache.bounded else _visited(self, index)

    def visit(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`open` of images that are not prepared. Raises BadInputError (65) where a file is not what it was."""
        sources = self.sources(index)
        lr, hr = self.cache.visit(*sources)
        for pixels, source, size, count in zip(
            (lr, hr), sources, self.sizes[index].tolist(), self.pairs.bytes[index].tolist(), strict=True
        ):
            if list(pixels.shape[1:]) != size or (source.scale == 1 and source.path.stat().st_size != count):
                raise BadInputError(
                    f"{source.path}: not the {size[1]}x{size[0]} pixels in {count:,} bytes that it had when the run "
                    "began: restore it, or continue with --resume auto --allow-changes"
                )
        return lr, hr


@lru_cache(maxsize=MAPPED_IMAGES // 2)  # as many pairs as the cache keeps of prepared images
def _visited(images: TrainingSet, index: int) -> tuple[np.ndarray, np.ndarray]:
    return images.visit(index)

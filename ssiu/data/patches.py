"""The training stream of images: aligned patches, whose crop and orientation are keyed by (seed, epoch, position)."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ssiu.data.order import mix, samples_of_sets
from ssiu.data.samples import SampleStream
from ssiu.data.training_set import TrainingSet
from ssiu.errors import ConfigError


def orient(patch: np.ndarray, orientation: int) -> np.ndarray:
    """One of the eight flips and rotations of a patch (3, h, w), as a view."""
    if orientation & 1:
        patch = patch[:, ::-1]
    if orientation & 2:
        patch = patch[:, :, ::-1]
    return patch.swapaxes(1, 2) if orientation & 4 else patch


class PatchStream(SampleStream):
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
        images, side = tuple(map(len, sets)), patch_size // scale
        samples = samples_of_sets(images, data_repeat, shares)
        super().__init__(images, samples, ((3, side, side), (3, patch_size, patch_size)), batch_size, seed)
        self.sets, self.scale, self.patch_size, self.augment = sets, scale, patch_size, augment
        self._first = list(accumulate(self.images[:-1], initial=0))  # the number of each set's first image
        if unseen := [each.name for each, samples in zip(sets, self.samples, strict=True) if not samples]:
            raise ConfigError(
                f"key 'training_dataset': the share of {unseen[0]} is less than one of the {sum(self.samples)} samples "
                "of an epoch; raise it, or leave the set out"
            )

    @property
    def manifest(self) -> str:
        """The digest of the only set, or over those of all: a resumed run can see that the data changed."""
        digests = [each.digest for each in self.sets]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def image(self, g: int) -> tuple[TrainingSet, int]:
        """The set of the image that sample ``g`` shows, and its index there."""
        index = self.image_index(g)
        number = bisect_right(self._first, index) - 1
        return self.sets[number], index - self._first[number]

    def place(self, g: int) -> tuple[int, int, int]:
        """(top, left, orientation) of sample ``g``: LR pixels, and 0-7."""
        images, index = self.image(g)
        return self._place(g, *images.sizes[index, 0].tolist())

    def _place(self, g: int, height: int, width: int) -> tuple[int, int, int]:
        """`place` in an LR image of that size."""
        key = self.key(g)
        side = self.patch_size // self.scale
        top, left = mix(key ^ 1) % (height - side + 1), mix(key ^ 2) % (width - side + 1)
        return top, left, mix(key ^ 3) % 8 if self.augment else 0

    def write(self, g: int, lr: np.ndarray, hr: np.ndarray) -> None:
        """Writes sample ``g`` into ``lr`` (3, p/s, p/s) and ``hr`` (3, p, p)."""
        images, index = self.image(g)
        lr_pixels, hr_pixels = images.open(index)
        top, left, orientation = self._place(g, *lr_pixels.shape[1:])
        for pixels, target, scale in ((lr_pixels, lr, 1), (hr_pixels, hr, self.scale)):
            y, x, side = top * scale, left * scale, target.shape[1]
            target[:] = orient(pixels[:, y : y + side, x : x + side], orientation)

    def name_of(self, g: int) -> str:
        """The image's name after that of its set."""
        images, index = self.image(g)
        return f"{images.name}/{images.pairs.names[index]}"

    def __str__(self) -> str:
        """``df2k (3,450 images, 67% of the samples), lsdir (84,991 images, 33% of the samples)``."""
        return ", ".join(
            f"{each.name} ({len(each):,} images, {samples / self.samples_per_epoch:.0%} of the samples)"
            for each, samples in zip(self.sets, self.samples, strict=True)
        )

"""Which image each sample shows, for one training set or several: a pure function of the seed and the epoch.

Random numbers come from the SplitMix64 finaliser used as a hash: no state, and the same in every NumPy version.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

WORD = 2**64 - 1


def mix(x: int) -> int:
    """SplitMix64: a 64-bit hash of a 64-bit number."""
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def _mix_array(x: np.ndarray) -> np.ndarray:
    """`mix` of every element of a uint64 array."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _unmix_array(x: np.ndarray) -> np.ndarray:
    """The inverse of `_mix_array`: its multipliers are inverse modulo 2^64."""
    x = (x ^ (x >> np.uint64(31)) ^ (x >> np.uint64(62))) * np.uint64(0x319642B2D24D8EC3)
    x = (x ^ (x >> np.uint64(27)) ^ (x >> np.uint64(54))) * np.uint64(0x96DE1B173F119089)
    return (x ^ (x >> np.uint64(30)) ^ (x >> np.uint64(60))) - np.uint64(0x9E3779B97F4A7C15)


def _permutation(key: int, count: int) -> np.ndarray:
    """The numbers below ``count``, int64 (count,), in the order of their random keys, no two of which are equal.

    Sorting the keys, which give the numbers back, takes a fifth of the time of an argsort.
    """
    word = np.uint64(mix(key))
    keys = _mix_array(word ^ np.arange(count, dtype=np.uint64))
    keys.sort()
    return (_unmix_array(keys) ^ word).astype(np.int64)


def samples_of_sets(images: Sequence[int], repeat: int, shares: Sequence[float] | None = None) -> tuple[int, ...]:
    """How many samples of an epoch each set gives: ``repeat`` of every image, or its share of as many in all."""
    if shares is None:
        return tuple(count * repeat for count in images)
    total = sum(images) * repeat
    ends = [round(total * end / sum(shares)) for end in accumulate(shares, initial=0.0)]
    return tuple(end - start for start, end in pairwise(ends))


@lru_cache(maxsize=2)  # this epoch's and, at its end, the next one's
def visits(seed: int, epoch: int, images: tuple[int, ...], samples: tuple[int, ...]) -> np.ndarray:
    """The image shown at each position of an epoch, int32 (sum(samples),); sets are numbered one after another.

    Set i shows its ``images[i]`` images in turn, ``samples[i]`` of them in this epoch, and where those are no whole
    rounds it goes on in the next epoch, in an order of its own; then all are shuffled. Within a run no image is thus
    shown more than once more often than another one of its set.
    """
    shown, first = [], 0
    for number, (count, share) in enumerate(zip(images, samples, strict=True)):
        turns = (epoch * share + np.arange(share)) % count
        if share % count:
            turns = _permutation(mix(mix(seed) ^ number) + 2, count)[turns]
        shown.append((first + turns).astype(np.int32))
        first += count
    return np.concatenate(shown)[_permutation(mix(mix(seed) ^ epoch), sum(samples))]

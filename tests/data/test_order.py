"""The order of images: every set gets its share of each epoch, every image of a set as many visits as the others."""

import numpy as np
import pytest
from scipy.stats import chisquare

from ssiu.data.order import _mix_array, _permutation, mix, samples_of_sets, visits


def counts(images: tuple[int, ...], samples: tuple[int, ...], epochs: range, seed: int = 7) -> list[np.ndarray]:
    """How often each image of each set comes in ``epochs`` together."""
    shown = np.concatenate([visits(seed, epoch, images, samples) for epoch in epochs])
    return np.split(np.bincount(shown, minlength=sum(images)), np.cumsum(images)[:-1])


def test_without_shares_every_image_of_every_set_comes_equally_often() -> None:
    images = (3, 7, 1)
    samples = samples_of_sets(images, 4)
    assert samples == (12, 28, 4)
    for epoch in range(3):
        assert all((count == 4).all() for count in counts(images, samples, range(epoch, epoch + 1)))


@pytest.mark.parametrize("shares", [(2, 1), (1, 2), (0.1, 0.2), (1, 1000), (3, 1)])
def test_shares_divide_an_epoch_and_within_a_set_no_image_is_preferred(shares: tuple[float, float]) -> None:
    images, repeat = (5, 70), 9
    samples = samples_of_sets(images, repeat, shares)
    assert sum(samples) == 75 * repeat
    assert samples[0] == pytest.approx(75 * repeat * shares[0] / sum(shares), abs=0.5)
    for last in range(1, 20):
        for count, expected in zip(counts(images, samples, range(last)), samples, strict=True):
            assert count.sum() == last * expected and count.max() - count.min() <= 1


def test_a_set_of_which_an_epoch_shows_a_part_is_not_shown_by_name() -> None:
    images, samples = (10, 1000), (900, 100)
    parts = [np.flatnonzero(counts(images, samples, range(epoch, epoch + 1))[1]) for epoch in range(10)]
    assert sorted(np.concatenate(parts)) == list(range(1000))
    for part in parts:
        assert chisquare(np.bincount(part // 100, minlength=10)).pvalue > 1e-3


def test_the_places_of_the_sets_in_an_epoch_are_random() -> None:
    images, samples = (4, 6), (400, 600)
    first = [visits(seed, 0, images, samples)[:500] < 4 for seed in range(40)]
    assert chisquare([np.sum(first), 20_000 - np.sum(first)], [8000, 12_000]).pvalue > 1e-3
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(visits(0, 0, images, samples), visits(0, 1, images, samples))


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 138_000])
def test_a_permutation_is_the_argsort_of_its_keys(count: int) -> None:
    for key in (0, 7, 2**64 - 1):
        keys = _mix_array(np.uint64(mix(key)) ^ np.arange(count, dtype=np.uint64))
        np.testing.assert_array_equal(_permutation(key, count), np.argsort(keys, kind="stable"))


def test_several_sets_never_change_their_order() -> None:
    """Golden numbers, as those of one set in test_patches.py."""
    assert visits(2024, 3, (3, 4), (2, 10)).tolist() == GOLDEN


GOLDEN = [5, 1, 2, 6, 4, 6, 3, 6, 5, 3, 3, 4]

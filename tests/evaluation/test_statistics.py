"""Intervals, sign flips and power, against formulas and counts made here."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from ssiu.evaluation.statistics import FEWEST, deciding, difference, mean_and_deviation, sign_flip_p


def test_one_set_gives_the_paired_t_interval_of_scipy():
    values = np.random.default_rng(0).normal(0.02, 0.05, 14)
    found = difference([values])
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.images, found.mean) == (14, pytest.approx(values.mean()))


@pytest.mark.parametrize("count", [2, 5, 9])
def test_p_counts_the_flips_that_are_as_far_from_zero(count):
    values = np.random.default_rng(count).normal(0.03, 0.05, count)
    flips = np.array(list(itertools.product((1, -1), repeat=count)))
    expected = np.mean(np.abs(flips @ values) >= abs(values.sum()) - 1e-12)
    assert sign_flip_p(values) == pytest.approx(expected)
    assert sign_flip_p(-values) == pytest.approx(expected)


def test_five_images_that_all_gain_give_no_verdict_and_six_do():
    five, six = (difference([np.linspace(0.1, 0.2, count)]) for count in (5, FEWEST))
    assert five.p == pytest.approx(2 / 2**5) and not five.told_apart and math.isnan(five.detectable)
    assert six.p == pytest.approx(2 / 2**6) and six.told_apart and six.detectable > 0


def test_equal_methods_and_the_least_of_images():
    same = difference([[0.0] * 8])
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    one = difference([[0.3]])
    assert (one.mean, one.p) == (0.3, 1) and math.isnan(one.low) and math.isnan(one.detectable)
    assert difference([]).images == 0 and math.isnan(difference([[]]).mean)


def test_several_sets_weigh_by_their_images_and_how_far_they_lie_apart_does_not_count():
    rng = np.random.default_rng(1)
    near, far = rng.normal(0, 0.05, 14), rng.normal(2, 0.05, 100)
    found = difference([near, far])
    assert found.mean == pytest.approx(np.concatenate([near, far]).mean())
    error = math.sqrt(14 * near.var(ddof=1) + 100 * far.var(ddof=1)) / 114
    assert found.high - found.mean == pytest.approx(1.98 * error, rel=0.01)
    assert difference([near, [5.0]]).images == 15  # a set of one image has no variance to add


@pytest.mark.parametrize("count", [8, 14, 100])
def test_the_detectable_difference_is_found_four_times_in_five(count):
    noise = np.random.default_rng(2).normal(0, 0.05, (4000, count))
    least = 0.05 / noise[0].std(ddof=1) * difference([noise[0]]).detectable  # of the true deviation, not the sample's
    assert np.mean(ttest_1samp(noise + least, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)


def test_the_deciding_images_turn_the_mean_and_no_fewer_do():
    values = np.random.default_rng(3).normal(0.01, 0.05, 30)
    for array in (values, -values):
        found = deciding(array)
        rest = np.delete(array, found).sum()
        assert rest * array.sum() <= 0
        assert np.delete(array, found[:-1]).sum() * array.sum() > 0
        assert all(abs(array[i]) >= abs(array[j]) for i, j in itertools.pairwise(found))
    assert deciding([0.0, 0.0]) == [] and deciding([0.1, 0.2]) == [1, 0]


def test_seeds_give_a_mean_and_a_deviation_of_the_sample():
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    mean, deviation = mean_and_deviation([4.0])
    assert mean == 4 and math.isnan(deviation)

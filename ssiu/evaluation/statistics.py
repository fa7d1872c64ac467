"""What differences between two methods on the same images, or between seeds of one, say.

An interval is over images: had other images of that kind been in the set, the mean difference would have been another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, permutation_test, t

LEVEL = 0.05  # of a two-sided test; the interval has 95%
POWER = 0.8
FLIPS = 19_999  # random sign flips; sets of up to 14 images have fewer, so all are taken
FEWEST = 6  # images: the least p of n images is 2 / 2^n


@dataclass(frozen=True)
class Difference:
    """The mean difference of two methods over ``images`` images; NaN is what so few of them do not give.

    ``low`` to ``high`` is its 95% interval by Student's t. ``p`` is two-sided: how often flips of the differences'
    signs, which change nothing where neither method is better, give a mean as far from 0. ``detectable`` is the least
    true mean that a test at 5% would find with a power of 80%.
    """

    images: int
    mean: float
    low: float
    high: float
    p: float
    detectable: float

    @property
    def told_apart(self) -> bool:
        """Whether the difference is more than chance, at 5%."""
        return self.p <= LEVEL


def difference(strata: Sequence[Sequence[float] | np.ndarray]) -> Difference:
    """The mean over all images of ``strata``: the differences, image by image, of one test set or of several.

    With several sets each keeps its share of the images: its own variance counts, not how far the sets' means lie apart
    (a stratified sample). Sets of one image, which have no variance, are left out of it.
    """
    sets = [np.asarray(each, dtype=np.float64) for each in strata if len(each)]
    values = np.concatenate(sets) if sets else np.empty(0)
    count = len(values)
    if not count:
        return Difference(0, *[math.nan] * 5)
    mean = values.mean().item()
    spread = [(len(each) * each.var(ddof=1).item(), len(each) - 1) for each in sets if len(each) > 1]
    if not spread:
        return Difference(count, mean, math.nan, math.nan, sign_flip_p(values), math.nan)
    variance = sum(square for square, _ in spread)  # of the sum over all images
    freedom = float(sum(freedom for _, freedom in spread))
    if variance > 0:  # as Welch and Satterthwaite estimate it; n - 1 of a single set
        freedom = variance**2 / sum(square**2 / freedom for square, freedom in spread)
    error = math.sqrt(variance) / count
    reach = t.ppf(1 - LEVEL / 2, freedom).item() * error
    least = _noncentrality(freedom) * error if count >= FEWEST else math.nan
    return Difference(count, mean, mean - reach, mean + reach, sign_flip_p(values), least)


def sign_flip_p(values: np.ndarray) -> float:
    """The two-sided p of a mean of 0 by flips of signs: all of them, or `FLIPS` random ones, always the same."""
    if len(values) < 2:
        return 1.0
    found = permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), vectorized=True, permutation_type="samples",
        n_resamples=FLIPS, batch=1_000_000 // len(values), rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


def deciding(values: Sequence[float] | np.ndarray) -> list[int]:
    """The fewest images without which the mean would be 0 or of the other sign, those that weigh most first."""
    array = np.asarray(values, dtype=np.float64)
    gains = array if array.sum() >= 0 else -array
    order = np.argsort(-gains, kind="stable")
    rest = gains.sum() - np.cumsum(gains[order])
    return order[: int(np.argmax(rest <= 0)) + 1].tolist() if gains.sum() > 0 else []


def mean_and_deviation(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The mean over seeds and their sample standard deviation, NaN of fewer than two."""
    array = np.asarray(values, dtype=np.float64)
    return array.mean().item(), array.std(ddof=1).item() if len(array) > 1 else math.nan


def _noncentrality(freedom: float) -> float:
    """How many standard errors off 0 a mean must be for a two-sided t test at `LEVEL` to find it with `POWER`."""
    bound = t.ppf(1 - LEVEL / 2, freedom).item()
    return brentq(lambda shift: nct.sf(bound, freedom, shift) - POWER, 0.1, 100)

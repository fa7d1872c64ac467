"""Methods on the same images: what one gains on another, how sure that is, and which images decide it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ssiu.errors import BadInputError, MissingInputError, counted, first_names
from ssiu.evaluation.scores import Evaluation, ImageResult
from ssiu.evaluation.statistics import FEWEST, Difference, deciding, difference, mean_and_deviation
from ssiu.files import csv_text
from ssiu.report.tables import Cell, Number, Table

ALL = "all sets"
FORMS = {"psnr": ("PSNR in dB", ".2f", "+.3f"), "ssim": ("SSIM", ".4f", "+.5f")}  # title, form of means, of differences
NOTE = (
    "The interval is over images, by Student's t. p is two-sided, by flips of the differences' signs. Could show: the "
    "least true difference that a test at 5% finds four times in five."
)


@dataclass(frozen=True)
class Method:
    """A name and the scores of one network, or of several that differ in their seed."""

    name: str
    runs: Sequence[Evaluation]

    def values(self, set_name: str, protocol: str, number: str) -> np.ndarray:
        """PSNR or SSIM, (runs, images); the images are sorted by name."""
        images = [sorted(run.of(set_name), key=lambda image: image.name) for run in self.runs]
        return np.array([[getattr(image.scores[protocol], number) for image in run] for run in images])


@dataclass(frozen=True)
class SetGains:
    """What ``other`` gains on ``first`` on one test set, or on all of them, whose gains are then in ``strata``.

    ``images`` are named as in a table of all, ``gains`` belong to them. ``means`` and ``deviations``, those over seeds,
    are of first and other.
    """

    name: str
    images: list[str]
    strata: list[np.ndarray]
    means: tuple[float, float]
    deviations: tuple[float, float]

    @cached_property
    def gains(self) -> np.ndarray:
        return np.concatenate(self.strata)

    @cached_property
    def found(self) -> Difference:
        return difference(self.strata)

    @property
    def better(self) -> int:
        """On how many images ``other`` is better."""
        return int((self.gains > 0).sum())

    @property
    def verdict(self) -> str:
        if self.found.images < FEWEST:
            return "too few images"
        if not self.found.told_apart:
            return "not told apart"
        return "better" if self.found.mean > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """``other`` beside ``first`` under one protocol: by test set and, where there are several, over all images."""

    first: Method
    other: Method
    protocol: str
    number: str
    sets: list[SetGains]
    exact: list[str]
    alone: list[str]

    @property
    def several_seeds(self) -> bool:
        return max(len(self.first.runs), len(self.other.runs)) > 1

    def table(self) -> Table:
        """A line a set; what decides it stands in the notes."""
        title, mean, gain = FORMS[self.number]
        header = ["set", "images", self.first.name, self.other.name, "difference", "95% interval", "p", "could show"]
        header += ["better on", self.other.name + " is"] + ["over seeds"] * self.several_seeds
        rows: list[list[Cell]] = []
        for each in self.sets:
            found = each.found
            row: list[Cell] = [
                each.name, Number(found.images, "d"), *(Number(value, mean) for value in each.means),
                Number(found.mean, gain), f"{found.low:{gain}} to {found.high:{gain}}", Number(found.p, ".4f"),
                Number(found.detectable, gain.removeprefix("+")), f"{each.better} of {found.images}", each.verdict,
            ]  # fmt: skip
            row += [tuple(Number(value, gain.removeprefix("+")) for value in each.deviations)] * self.several_seeds
            rows.append(row)
        return Table(f"{self.other.name} beside {self.first.name}: {title}, {self.protocol}", header, rows, self.notes)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = [NOTE]
        for each in self.sets:
            count = each.found.images
            if count < FEWEST:
                notes.append(
                    f"{each.name}: {counted(count, 'image')} cannot tell two methods apart at 5%; even if all gain, p "
                    f"is {2 / 2**count if count > 1 else 1:g}."
                )
            if decisive := [each.images[index] for index in deciding(each.gains)]:
                ahead, behind = (self.other, self.first) if each.found.mean > 0 else (self.first, self.other)
                notes.append(
                    f"{each.name}: without {len(decisive)} of {counted(count, 'image')} ({first_names(decisive, 3)}) "
                    f"{ahead.name} would not be ahead of {behind.name}."
                )
        if self.several_seeds:
            runs = " and ".join(f"{counted(len(m.runs), 'seed')} of {m.name}" for m in (self.first, self.other))
            notes.append(
                f"Each image counts with its mean over {runs}. Over seeds: the standard deviation of the set's mean "
                f"({self.first.name} / {self.other.name}), which is not in the interval."
            )
        if self.exact:
            notes.append(f"Left out, because a PSNR is infinite: {first_names(self.exact)}.")
        if self.alone:
            notes.append(f"Left out, because only one of them has it: {first_names(self.alone)}.")
        return tuple(notes)


def compare(first: Method, other: Method, protocol: str = "standard", number: str = "psnr") -> Comparison:
    """What ``other`` gains on ``first`` on every test set that both have.

    ``number`` is ``psnr`` or ``ssim``. Raises MissingInputError (66) where they share no set, one lacks an image of
    the other, or one was not scored under ``protocol``, BadInputError (65) for an image of two sizes.
    """
    runs = [(method.name, run) for method in (first, other) for run in method.runs]
    for name, run in runs:
        if protocol not in run.protocols:
            raise MissingInputError(f"{name} was not scored under {protocol}; it has {', '.join(run.protocols)}")
    named = dict.fromkeys(name for _, run in runs for name in run.sets)
    shared = [name for name in named if all(name in run.sets for _, run in runs)]
    if not shared:
        have = "; ".join(f"{name} has {', '.join(run.sets)}" for name, run in runs)
        raise MissingInputError(f"no test set was scored by all: {have}")
    blocks, exact = [], []
    for set_name in shared:
        images = _common_images(set_name, runs)
        a, b = (method.values(set_name, protocol, number) for method in (first, other))
        finite = np.isfinite(np.vstack((a, b))).all(axis=0)
        exact += [image.key for image, kept in zip(images, finite, strict=True) if not kept]
        names = [image.name for image, kept in zip(images, finite, strict=True) if kept]
        if names:
            blocks.append(_Block(set_name, names, a[:, finite], b[:, finite]))
    sets = [_gains(block.set_name, block.images, [block]) for block in blocks]
    if len(blocks) > 1:
        sets.append(_gains(ALL, [f"{block.set_name}/{name}" for block in blocks for name in block.images], blocks))
    return Comparison(first, other, protocol, number, sets, exact, [name for name in named if name not in shared])


def comparisons_csv(comparisons: Sequence[Comparison]) -> str:
    """A line a set and pair of methods, with all digits."""
    header = [
        "set", "protocol", "number", "first", "other", "first_mean", "other_mean", "first_deviation_over_seeds",
        "other_deviation_over_seeds", "images", "difference", "low", "high", "p", "could_show", "better_on",
    ]  # fmt: skip
    lines = []
    for each in comparisons:
        for gains in each.sets:
            found = gains.found
            numbers = [found.images, found.mean, found.low, found.high, found.p, found.detectable, gains.better]
            lines.append(
                [gains.name, each.protocol, each.number, each.first.name, each.other.name, *gains.means]
                + ["" if isinstance(v, float) and math.isnan(v) else v for v in (*gains.deviations, *numbers)]
            )
    return csv_text(header, lines)


def gains_csv(comparisons: Sequence[Comparison]) -> str:
    """A line an image and pair of methods."""
    lines = (
        [gains.name, image, each.first.name, each.other.name, gain]
        for each in comparisons
        for gains in each.sets
        if gains.name != ALL
        for image, gain in zip(gains.images, gains.gains.tolist(), strict=True)
    )
    return csv_text(["set", "image", "first", "other", "gain"], lines)


def _common_images(set_name: str, runs: Sequence[tuple[str, Evaluation]]) -> list[ImageResult]:
    """The images of a set, sorted by name, which all ``runs`` have in one size."""
    by_run = [(name, {image.name: image for image in run.of(set_name)}) for name, run in runs]
    (reference, expected), *others = by_run
    for name, images in others:
        if lacking := sorted(expected.keys() ^ images.keys()):
            raise MissingInputError(
                f"{set_name}: {reference} and {name} do not have the same images ({first_names(lacking)} in one of "
                "them); score both on the same set"
            )
        for key, image in images.items():
            sizes = [(each.width, each.height) for each in (expected[key], image)]
            if sizes[0] != sizes[1]:
                texts = ["{}x{}".format(*size) for size in sizes]
                raise BadInputError(
                    f"{image.key} is {texts[0]} for {reference} and {texts[1]} for {name}; score both on the same copy"
                )
    return [expected[name] for name in sorted(expected)]


class _Block(NamedTuple):
    """The scores of a set: first and other, (runs, images)."""

    set_name: str
    images: list[str]
    first: np.ndarray
    other: np.ndarray


def _gains(name: str, images: list[str], blocks: Sequence[_Block]) -> SetGains:
    strata = [block.other.mean(axis=0) - block.first.mean(axis=0) for block in blocks]
    both = [np.hstack([block.first for block in blocks]), np.hstack([block.other for block in blocks])]
    (first, first_spread), (other, other_spread) = (mean_and_deviation(scores.mean(axis=1)) for scores in both)
    return SetGains(name, images, strata, (first, other), (first_spread, other_spread))

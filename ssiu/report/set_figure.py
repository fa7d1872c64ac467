"""What the images of a set are like, as histograms."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ssiu.data.set_statistics import BLOCKY, ImageFacts


def set_figure(sets: Mapping[str, Sequence[ImageFacts]]) -> Figure:
    """Four histograms with a line for each set: shares of its images."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    pixels = "megapixels", lambda each: each.size[0] * each.size[1] / 1e6
    energy = "gradient energy of LR", lambda each: max(each.energy, 1e-2)
    blocks = f"blockiness (JPEG above {BLOCKY})", lambda each: each.blockiness
    flat = "share of flat patches", lambda each: each.flat
    for axis, (title, value) in zip(figure.subplots(2, 2).flat, (pixels, energy, blocks, flat), strict=True):
        values = {name: np.array([value(each) for each in facts]) for name, facts in sets.items()}
        every = np.concatenate(list(values.values()))
        logarithmic = every.min() > 0 and every.max() > 20 * every.min()
        bins = (np.geomspace if logarithmic else np.linspace)(every.min(), every.max() + 1e-6, 25)
        for name, numbers in values.items():
            weights = np.full(len(numbers), 1 / len(numbers))
            axis.hist(numbers, bins.tolist(), weights=weights, histtype="step", label=f"{name} ({len(numbers):,})")
        axis.set_xlabel(title)
        axis.set_ylabel("share of the images")
        if logarithmic:
            axis.set_xscale("log")
    figure.axes[0].legend()
    return figure

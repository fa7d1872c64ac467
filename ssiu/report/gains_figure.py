"""The gains of one method on another, image by image, sorted: whether many images gain a little or a few much."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from ssiu.errors import one_line
from ssiu.report.comparison import ALL, FORMS, Comparison

BETTER, WORSE = "#2c7a4b", "#b5403a"


def gains_figure(comparisons: Sequence[Comparison]) -> Figure:
    """A row a pair of methods, a column a test set: a bar an image, the mean and its 95% interval."""
    names = list(dict.fromkeys(gains.name for each in comparisons for gains in each.sets if gains.name != ALL))
    figure = Figure(figsize=(1.2 + 2.9 * len(names), 0.5 + 2.3 * len(comparisons)), layout="constrained")
    rows = figure.subplots(len(comparisons), len(names), squeeze=False, sharey="row")
    title, _, form = FORMS[comparisons[0].number]
    for axes, each in zip(rows, comparisons, strict=True):
        by_name = {gains.name: gains for gains in each.sets}
        for axis, name in zip(axes, names, strict=True):
            gains = by_name.get(name)
            if gains is None:
                axis.set_axis_off()
                continue
            found, values = gains.found, sorted(gains.gains.tolist())
            axis.bar(range(len(values)), values, width=1, color=[BETTER if v > 0 else WORSE for v in values])
            axis.axhspan(found.low, found.high, color="#555555", alpha=0.25, linewidth=0)
            axis.axhline(found.mean, color="#222222", linewidth=1)
            axis.axhline(0, color="#222222", linewidth=0.5)
            axis.set_title(f"{one_line(name)}: {found.mean:{form}}, p = {found.p:.4f}", fontsize=9)
            axis.set_xlabel(f"images, better on {gains.better} of {found.images}", fontsize=8)
            axis.set_xticks([])
            axis.tick_params(labelsize=8)
        axes[0].set_ylabel(one_line(f"{each.other.name} less {each.first.name}"), fontsize=8)
    figure.suptitle(f"Gain in {title}, {comparisons[0].protocol}: mean (line) and its 95% interval (band)", fontsize=9)
    return figure

"""How often neurons are active, per layer and projection."""

import numpy as np
from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData, projections_of
from actsparse.report.figures.style import COLOURS, legend_below, panels

NEEDS = {"active_neurons"}


def draw(data: StudyData) -> Figure:
    """A row per model and sparsity, a panel per projection: the median over a layer's neurons of the part of
    tokens they are active for, and the ranges that hold the middle 50 and 90 percent of the neurons."""
    projections = projections_of(data.active.values())
    figure, rows = panels(len(data.active), len(projections), sharex=True, sharey=True)
    for row, ((model, sparsity), found) in zip(rows, data.active.items(), strict=True):
        for axes, projection in zip(row, projections, strict=True):
            if projection not in found:
                continue
            low, lower, middle, upper, high = found[projection].T
            layers = np.arange(len(middle))
            axes.fill_between(
                layers, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="middle 90 % of neurons"
            )
            axes.fill_between(
                layers, lower, upper, color=COLOURS[0], alpha=0.4, linewidth=0, label="middle 50 %"
            )
            axes.plot(layers, middle, color=COLOURS[0], marker="o", markersize=3, label="median neuron")
            axes.set(title=f"{model}, sparsity {sparsity}\n{projection}", xlabel="decoder layer", ylim=(0, 1))
        row[0].set_ylabel("active (fraction of tokens)")
    figure.set_figwidth(0.8 * figure.get_figwidth())
    legend_below(figure, rows[0][0])
    return figure

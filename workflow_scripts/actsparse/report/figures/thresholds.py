"""Thresholds per layer and projection."""

from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData, projections_of
from actsparse.report.figures.style import MARKERS, log_scale, panels, ramp

NEEDS = {"thresholds"}


def draw(data: StudyData) -> Figure:
    """A row per model, a panel per projection, a line per sparsity."""
    projections = projections_of(data.thresholds.values())
    figure, rows = panels(len(data.models), len(projections), sharey="row")
    for row, model in zip(rows, data.models, strict=True):
        sparsities = sorted(sparsity for name, sparsity in data.thresholds if name == model)
        colours = ramp(len(sparsities))
        for axes, projection in zip(row, projections, strict=True):
            for i, sparsity in enumerate(sparsities):
                values = data.thresholds[model, sparsity].get(projection, [])
                axes.plot(
                    values, color=colours[i], marker=MARKERS[i % len(MARKERS)], markersize=3, label=sparsity
                )
            axes.set(title=f"{model}\n{projection}", xlabel="decoder layer")
            log_scale(axes.yaxis)
        row[0].set_ylabel("threshold (log scale)")
        row[-1].legend(title="sparsity")
    figure.set_figwidth(0.8 * figure.get_figwidth())
    return figure

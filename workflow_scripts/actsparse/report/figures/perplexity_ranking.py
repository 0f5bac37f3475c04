"""Perplexity of every experiment, best first."""

from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import by_method, points
from actsparse.report.figures.style import GREY, legend_below, log_scale, panels

INCH_PER_ROW = 0.16


def draw(data: StudyData) -> Figure:
    """One panel per model; bars are standard errors over windows, the dashed line is the dense model."""
    figure, [row] = panels(1, len(data.models))
    most = 0
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model).sort_values("perplexity", ascending=False).reset_index(drop=True)
        most = max(most, len(found))
        for dense in found[found.method == "dense"].perplexity:
            axes.axvline(dense, color=GREY, linestyle="--", linewidth=0.8)
        for label, style, members in by_method(found):
            style |= {"linestyle": "none", "elinewidth": 0.7}
            errors = members.perplexity_stderr
            axes.errorbar(members.perplexity, members.index, xerr=errors, label=label, **style)
        axes.set_yticks(range(len(found)), found.experiment)
        axes.set_ylim(-0.7, len(found) - 0.3)
        log_scale(axes.xaxis)
        axes.set(title=model, xlabel="perplexity (log scale)")
        axes.grid(axis="y", visible=False)
    figure.set_size_inches(max(figure.get_figwidth() * 1.5, 4.8), 0.7 + INCH_PER_ROW * most)
    legend_below(figure, *row)
    return figure

"""Perplexity against realised sparsity, one line per method."""

from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import points
from actsparse.report.figures.style import GREY, legend_below, log_scale, look, panels

# Series in a legend that can still be read; where there are more, those of one experiment are grey.
CROWDED = 12
ALONE = "methods with one experiment"


def draw(data: StudyData) -> Figure:
    """One panel per model; the dense model is the dashed line."""
    figure, [row] = panels(1, len(data.models))
    looks = {}
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model)
        for dense in found[found.method == "dense"].perplexity:
            axes.axhline(dense, color=GREY, linestyle="--", label="dense")
        sparse = found[found.method != "dense"]
        sizes = sparse.groupby("series").size()
        if len(sizes) > CROWDED:
            alone = sparse[sparse.series.map(sizes) == 1]
            sparse = sparse.drop(alone.index)
            axes.scatter(alone.sparsity, alone.perplexity, color=GREY, marker="x", label=ALONE)
        for series, members in sparse.groupby("series", sort=False):
            style = looks.setdefault(series, look(len(looks)))
            members = members.sort_values(["sparsity", "perplexity"])
            axes.plot(members.sparsity, members.perplexity, label=series, alpha=0.9, **style)
        log_scale(axes.yaxis)
        axes.set(title=model, xlabel="realised sparsity of the replaced layers (fraction)")
    row[0].set_ylabel("perplexity (log scale)")
    figure.set_figwidth(max(figure.get_figwidth(), 4.8))
    legend_below(figure, *row)
    return figure

"""A number against realised sparsity, one line per method."""

from matplotlib.figure import Figure

from actsparse.kinds.dense import Dense
from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import over_seeds, points
from actsparse.report.figures.style import GREY, legend_below, look, panels, scale_of

# Series in a legend that can still be read; where there are more, those of one experiment are grey.
CROWDED = 12
ALONE = "methods with one experiment"


def draw(data: StudyData, column: str) -> Figure:
    """One panel per model; the dense model is the dashed line, bands are the spread over seeds."""
    about = data.column(column)
    figure, [row] = panels(1, len(data.models))
    looks = {}
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model, column)
        for dense in found[found.method == Dense.word][column]:
            axes.axhline(dense, color=GREY, linestyle="--", label=Dense.legend)
        sparse = over_seeds(found[found.method != Dense.word], column)
        sizes = sparse.groupby("series").size()
        if len(sizes) > CROWDED:
            alone = sparse[sparse.series.map(sizes) == 1]
            sparse = sparse.drop(alone.index)
            axes.scatter(alone.sparsity, alone[column], color=GREY, marker="x", label=ALONE)
        for series, members in sparse.groupby("series", sort=False):
            style = looks.setdefault(series, look(len(looks)))
            members = members.sort_values(["sparsity", column])
            axes.plot(members.sparsity, members[column], label=series, alpha=0.9, **style)
            if members.spread.any():
                low, high = members[column] - members.spread, members[column] + members.spread
                band = {"color": style["color"], "alpha": 0.25, "linewidth": 2}
                axes.fill_between(members.sparsity, low, high, **band)
        scale = scale_of(axes.yaxis, about)
        axes.set(title=model, xlabel="realised sparsity of the replaced layers (fraction)")
    row[0].set_ylabel(f"{about.title}{scale}")
    figure.set_figwidth(max(figure.get_figwidth(), 4.8))
    legend_below(figure, *row)
    return figure

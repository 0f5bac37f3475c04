"""A number of every experiment, best first."""

from matplotlib.figure import Figure

from actsparse.kinds.dense import Dense
from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import by_kind, points
from actsparse.report.figures.style import GREY, legend_below, panels, scale_of

INCH_PER_ROW = 0.16


def draw(data: StudyData, column: str) -> Figure:
    """One panel per model; bars are standard errors, the dashed line is the dense model."""
    about = data.column(column)
    figure, [row] = panels(1, len(data.models))
    most = 0
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model, column).sort_values(column, ascending=about.better == "higher")
        found = found.reset_index(drop=True)
        most = max(most, len(found))
        for dense in found[found.method == Dense.word][column]:
            axes.axvline(dense, color=GREY, linestyle="--", linewidth=0.8)
        for label, style, members in by_kind(found):
            style |= {"linestyle": "none", "elinewidth": 0.7}
            errors = members[f"{column}_stderr"]
            axes.errorbar(members[column], members.index, xerr=errors, label=label, **style)
        axes.set_yticks(range(len(found)), found.experiment)
        axes.set_ylim(-0.7, len(found) - 0.3)
        axes.set(title=model, xlabel=f"{about.title}{scale_of(axes.xaxis, about)}")
        axes.grid(axis="y", visible=False)
    figure.set_size_inches(max(figure.get_figwidth() * 1.5, 4.8), 0.7 + INCH_PER_ROW * most)
    legend_below(figure, *row)
    return figure

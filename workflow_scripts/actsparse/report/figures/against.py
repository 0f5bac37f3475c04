"""One number against another, one marker per experiment."""

from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import by_kind, points
from actsparse.report.figures.style import legend_below, panels, scale_of


def draw(data: StudyData, column: str, other: str) -> Figure:
    """One panel per model; bars are one standard error of `column`, which is plotted against `other`."""
    figure, [row] = panels(1, len(data.models))
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model, other)
        for label, style, members in by_kind(found):
            axes.errorbar(
                members[other],
                members[column],
                yerr=members[f"{column}_stderr"],
                label=label,
                linestyle="none",
                elinewidth=0.5,
                **style,
            )
        scale = scale_of(axes.xaxis, data.column(other))
        axes.set(title=model, xlabel=f"{data.column(other).title}{scale}")
    row[0].set_ylabel(f"{data.column(column).title} (fraction)")
    figure.set_figwidth(max(figure.get_figwidth(), 4.8))
    legend_below(figure, *row)
    return figure

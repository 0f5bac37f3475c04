"""One number against another, one marker per experiment."""

import pandas as pd
from matplotlib.figure import Figure

from actsparse.columns import Column
from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import by_kind, points
from actsparse.report.figures.style import GREY, legend_below, panels, scale_of


def draw(data: StudyData, column: str, other: str) -> Figure:
    """One panel per model; bars are one standard error of `column`, which is plotted against `other`.

    The grey line joins the experiments than which none is better in both numbers, each with its name.
    """
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
        _draw_front(axes, found, data.column(column), data.column(other))
        scale = scale_of(axes.xaxis, data.column(other))
        axes.set(title=model, xlabel=f"{data.column(other).title}{scale}")
    row[0].set_ylabel(f"{data.column(column).title}{scale_of(row[0].yaxis, data.column(column))}")
    figure.set_figwidth(max(figure.get_figwidth(), 4.8))
    legend_below(figure, *row)
    return figure


def front(found: pd.DataFrame, column: Column, other: Column) -> pd.DataFrame:
    """Return the points than which none is better in both columns, in the order of `other`."""
    signs = {each.name: 1 if each.better == "lower" else -1 for each in (column, other)}
    ranked = found[[column.name, other.name]].mul(pd.Series(signs)).dropna()
    ranked = ranked.sort_values([other.name, column.name])
    best = ranked[column.name].cummin().shift(fill_value=float("inf"))
    return found.loc[ranked.index[ranked[column.name] < best]]


def _draw_front(axes, found: pd.DataFrame, column: Column, other: Column) -> None:
    if column.better is None or other.better is None:
        return
    members = front(found, column, other)
    axes.plot(members[other.name], members[column.name], color=GREY, linewidth=0.8, zorder=0, label="front")
    for row in members.to_dict("records"):
        place = (row[other.name], row[column.name])
        axes.annotate(row["experiment"], place, xytext=(3, 3), textcoords="offset points", fontsize=5)

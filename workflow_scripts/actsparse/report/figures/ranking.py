"""A number of every experiment, best first."""

import math

import pandas as pd
from matplotlib.figure import Figure

from actsparse.kinds.dense import Dense
from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import by_kind, points
from actsparse.report.figures.style import GREY, legend_below, panels, scale_of

INCH_PER_ROW = 0.16


def draw(data: StudyData, column: str) -> Figure:
    """One panel per model; the dashed line is the dense model, bars are standard errors of the distance to
    it, on the same windows or items, or of the number itself where dense kept none."""
    about = data.column(column)
    figure, [row] = panels(1, len(data.models))
    most = 0
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model, column).sort_values(column, ascending=about.better == "higher")
        found = found.reset_index(drop=True)
        errors = distance_errors(data, model, found, column)
        most = max(most, len(found))
        for dense in found[found.method == Dense.word][column]:
            axes.axvline(dense, color=GREY, linestyle="--", linewidth=0.8)
        for label, style, members in by_kind(found):
            style |= {"linestyle": "none", "elinewidth": 0.7}
            axes.errorbar(members[column], members.index, xerr=errors[members.index], label=label, **style)
        axes.set_yticks(range(len(found)), found.experiment)
        axes.set_ylim(-0.7, len(found) - 0.3)
        axes.set(title=model, xlabel=f"{about.title}{scale_of(axes.xaxis, about)}")
        axes.grid(axis="y", visible=False)
    figure.set_size_inches(max(figure.get_figwidth() * 1.5, 4.8), 0.7 + INCH_PER_ROW * most)
    legend_below(figure, *row)
    return figure


def distance_errors(data: StudyData, model: str, found: pd.DataFrame, column: str) -> pd.Series:
    """Return the standard errors of the points' distances to the dense model, in the number's unit.

    A ratio is one of the dense model's number. The dense model itself has no distance.
    """
    for dense in found.index[found.method == Dense.word]:
        name = found.experiment[dense]
        compared = [data.paired.compare(model, experiment, name, column) for experiment in found.experiment]
        unit = found[column][dense] if data.column(column).paired == "ratio" else 1.0
        errors = [unit * each.stderr if each and each.whole else math.nan for each in compared]
        if compared[dense]:
            return pd.Series(errors, found.index).where(found.index != dense)
    return found[f"{column}_stderr"]

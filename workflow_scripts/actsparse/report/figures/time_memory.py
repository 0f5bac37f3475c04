"""Wall time and memory of every job of the study, by rule."""

from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData
from actsparse.report.figures.style import COLOURS, log_scale, panels

NEEDS = {"evaluations"}
INCH_PER_RULE = 0.28


def draw(data: StudyData) -> Figure:
    """Two panels with a line per rule and a mark per job."""
    rules = list(dict.fromkeys(data.jobs.sort_values("seconds").rule))
    figure, [row] = panels(1, 2, sharey=True)
    for axes, column, label in (
        (row[0], "seconds", "wall time per job (s, log scale)"),
        (row[1], "memory_gb", "largest resident memory per job (GiB)"),
    ):
        places = [rules.index(rule) for rule in data.jobs.rule]
        axes.plot(data.jobs[column], places, "o", color=COLOURS[0], alpha=0.5, markeredgewidth=0)
        axes.set(xlabel=label)
    log_scale(row[0].xaxis)
    row[1].set_xlim(left=0)
    totals = data.jobs.groupby("rule").seconds
    names = [
        f"{rule}: {len(totals.get_group(rule))} x, {totals.sum()[rule] / 60:.1f} min in all" for rule in rules
    ]
    row[0].set_yticks(range(len(rules)), names)
    row[0].set_ylim(-0.6, len(rules) - 0.4)
    figure.set_size_inches(7, 0.8 + INCH_PER_RULE * len(rules))
    return figure

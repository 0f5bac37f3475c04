"""Zero-shot accuracy against perplexity, one marker per experiment."""

from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData
from actsparse.report.figures.series import by_method, points
from actsparse.report.figures.style import legend_below, log_scale, panels


def draw(data: StudyData) -> Figure:
    """One panel per model; bars are one standard error of each."""
    figure, [row] = panels(1, len(data.models))
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model)
        for label, style, members in by_method(found):
            axes.errorbar(
                members.perplexity,
                members.accuracy,
                yerr=members.accuracy_stderr,
                label=label,
                linestyle="none",
                elinewidth=0.5,
                **style,
            )
        log_scale(axes.xaxis)
        axes.set(title=model, xlabel="perplexity (log scale)")
    row[0].set_ylabel("mean task accuracy (fraction)")
    figure.set_figwidth(max(figure.get_figwidth(), 4.8))
    legend_below(figure, *row)
    return figure

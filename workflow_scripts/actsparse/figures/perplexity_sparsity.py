"""Perplexity against realised sparsity, one line per method."""

from matplotlib.figure import Figure

from actsparse.figures.data import StudyData
from actsparse.figures.series import points
from actsparse.figures.style import GREY, log_scale, look, panels


def draw(data: StudyData) -> Figure:
    """One panel per model; the dense model is the dashed line."""
    figure, [row] = panels(1, len(data.models))
    for axes, model in zip(row, data.models, strict=True):
        found = points(data, model)
        for dense in found[found.method == "dense"].perplexity:
            axes.axhline(dense, color=GREY, linestyle="--", label="dense")
        sparse = found[found.method != "dense"]
        for i, (series, members) in enumerate(sparse.groupby("series", sort=False)):
            members = members.sort_values(["sparsity", "perplexity"])
            axes.plot(members.sparsity, members.perplexity, label=series, alpha=0.9, **look(i))
        log_scale(axes.yaxis)
        axes.set(title=model, xlabel="realised sparsity of the replaced layers (fraction)")
    row[0].set_ylabel("perplexity (log scale)")
    _legend_below(figure, row[0])
    return figure


def _legend_below(figure: Figure, axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.set_figwidth(max(figure.get_figwidth(), 4.8))
    figure.set_figheight(figure.get_figheight() + 0.15 * ((len(labels) + 1) // 2))
    figure.legend(handles, labels, loc="outside lower center", ncols=2)

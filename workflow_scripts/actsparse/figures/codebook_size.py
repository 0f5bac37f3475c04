"""Perplexity and recall against the number of centroids K, one line per centroid sparsity."""

import pandas as pd
from matplotlib.figure import Figure

from actsparse.figures.data import StudyData, projections_of
from actsparse.figures.style import GREY, MARKERS, log_scale, panels, ramp
from actsparse.tables.records import number

LINES = ("-", "--", ":", "-.")


def draw(data: StudyData) -> Figure:
    """A row per model: perplexity, then recall of each projection.

    Dotted lines are the recall of the trivial codebook of one centroid per layer, coloured by its sparsity;
    grey lines are the perplexity of the dense model and of the thresholds without a codebook.
    """
    frames = {model: _codebooks(data, model) for model in data.models}
    projections = projections_of(frame.projection for frame in frames.values())
    figure, rows = panels(len(frames), 1 + len(projections))
    for row, (model, frame) in zip(rows, frames.items(), strict=True):
        _draw_perplexity(row[0], frame[frame.projection == projections[0]])
        _draw_references(row[0], data, model, set(frame.threshold))
        row[0].set(title=model, ylabel="perplexity (log scale)")
        log_scale(row[0].yaxis)
        for axes, projection in zip(row[1:], projections, strict=True):
            _draw_recall(axes, frame[frame.projection == projection])
            axes.set(title=projection, ylim=(0, 1))
        row[1].set_ylabel("recall of active neurons (fraction)")
        for axes in row:
            sizes = sorted(set(frame.clusters))
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_xlabel("centroids K")
    _legend(figure, rows[0][:2])
    figure.set_figwidth(0.75 * figure.get_figwidth())
    return figure


def _codebooks(data: StudyData, model: str) -> pd.DataFrame:
    rows = [
        {**record["params"], "projection": projection, **found, "perplexity": number(record["value"])}
        for records in data.of_model(model).values()
        for record in [records["perplexity"]]
        for projection, found in record.get("coverage", {}).items()
    ]
    return pd.DataFrame(rows).sort_values("clusters")


def _variants(frame: pd.DataFrame):
    """Yield (label, style, rows): colour tells the centroid sparsity, dashes the algorithm and its scope."""
    sparsities = sorted(set(frame.centroid_sparsity))
    colours = dict(zip(sparsities, ramp(len(sparsities)), strict=True))
    kinds = list(dict.fromkeys(zip(frame.algorithm, frame.scope, strict=True)))
    for (sparsity, algorithm, scope), members in frame.groupby(["centroid_sparsity", "algorithm", "scope"]):
        kind = kinds.index((algorithm, scope))
        style = {
            "color": colours[sparsity],
            "marker": MARKERS[sparsities.index(sparsity) % len(MARKERS)],
            "linestyle": LINES[kind % len(LINES)],
        }
        label = f"centroid sparsity {sparsity:g}" + (f", {scope}, {algorithm}" if len(kinds) > 1 else "")
        yield label, style, members


def _draw_perplexity(axes, frame: pd.DataFrame) -> None:
    for label, style, members in _variants(frame):
        axes.plot(members.clusters, members.perplexity, label=label, **style)


def _draw_recall(axes, frame: pd.DataFrame) -> None:
    for _, style, members in _variants(frame):
        axes.plot(members.clusters, members.recall, **style)
        axes.axhline(members.baseline_recall.iloc[0], color=style["color"], linestyle=":", linewidth=0.9)
    axes.plot([], [], color=GREY, linestyle=":", linewidth=0.9, label="one centroid per layer (recall)")


def _draw_references(axes, data: StudyData, model: str, thresholds: set[float]) -> None:
    for records in data.of_model(model).values():
        record = records["perplexity"]
        if record["method"] == "dense":
            axes.axhline(number(record["value"]), color=GREY, linestyle="--", label="dense")
        if record["method"] == "threshold" and record["params"]["sparsity"] in thresholds:
            label = f"thresholds alone, {record['params']['sparsity']:g}"
            axes.axhline(number(record["value"]), color=GREY, linestyle="-.", label=label)


def _legend(figure: Figure, axes) -> None:
    found = {
        label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)
    }
    figure.set_figheight(figure.get_figheight() + 0.15 * ((len(found) + 2) // 3))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3)

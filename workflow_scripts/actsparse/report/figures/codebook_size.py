"""Perplexity and recall against the number of centroids K, one line per centroid sparsity."""

import math

import pandas as pd
from matplotlib.figure import Figure

from actsparse.report.figures.data import StudyData, projections_of
from actsparse.report.figures.style import GREY, MARKERS, legend_below, log_scale, panels, ramp
from actsparse.report.tables.records import number

LINES = ("-", "--", "-.", (0, (1, 1)))
BASELINE = {"linestyle": ":", "marker": "_", "markersize": 7, "linewidth": 0.9}
# What codebooks of one size may differ in, and how a legend says it.
KINDS = {
    "algorithm": "{}",
    "scope": "{}",
    "threshold": "threshold {}",
    "groups": "groups {:g}",
    "allocation": "{}",
    "patterns_of": "fitted to the {} model",
    "importance": "weighed by {}",
    "seeding": "{}",
    "seed_sparsity": "seeds from {:g}",
    "validation": "validation {:g}",
    "replace_below": "replaced below {:g}",
    "balanced": "balanced {}",
    "warm_up": "warm-up {:g}",
    "as_published": "published protocol {}",
    "combine": "{}",
    "joint": "joint {}",
    "assignment": "{}",
    "router_rank": "rank {:g}",
    "router_loss": "{}",
}


def draw(data: StudyData) -> Figure:
    """A row per model: perplexity, then recall of each projection.

    Dotted lines are the recall of the trivial codebook of one centroid per layer, on the same patterns (those
    of the model under each codebook), coloured by its sparsity;
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
            axes.set(title=projection)
            axes.sharey(row[1])
        row[1].set_ylabel("recall (fraction)")
        for axes in row:
            sizes = sorted(set(frame.clusters))
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_xlabel("centroids K")
    figure.set_figwidth(0.75 * figure.get_figwidth())
    legend_below(figure, *rows[0][:2])
    return figure


def _codebooks(data: StudyData, model: str) -> pd.DataFrame:
    rows = [
        record["params"]
        | {"projection": projection, "perplexity": number(record["value"]), "baseline_recall": math.nan}
        | found
        for records in data.of_model(model).values()
        for record in [records["perplexity"]]
        for projection, found in record.get("coverage", {}).items()
    ]
    frame = pd.DataFrame(rows).sort_values("clusters", kind="stable")
    frame["kind"] = _kinds(frame)
    return frame


def _kinds(frame: pd.DataFrame) -> list[str]:
    """Return in which words codebooks differ beyond K and the centroid sparsity; "" where in none."""
    differing = [key for key in KINDS if key in frame and frame[key].nunique(dropna=False) > 1]
    return [
        ", ".join(KINDS[key].format(row[key]) for key in differing if pd.notna(row[key]))
        for row in frame.to_dict("records")
    ]


def _variants(frame: pd.DataFrame):
    """Yield (label, style, rows): colour and marker tell the centroid sparsity, dash and filling the kind."""
    sparsities = sorted(set(frame.centroid_sparsity))
    colours = dict(zip(sparsities, ramp(len(sparsities)), strict=True))
    kinds = list(dict.fromkeys(frame.kind))
    for (sparsity, kind), members in frame.groupby(["centroid_sparsity", "kind"], sort=False):
        place = kinds.index(kind)
        style = {
            "color": colours[sparsity],
            "marker": MARKERS[sparsities.index(sparsity) % len(MARKERS)],
            "linestyle": LINES[place % len(LINES)],
            "markerfacecolor": "white" if place % 2 else colours[sparsity],
        }
        yield f"centroid sparsity {sparsity:g}" + (f", {kind}" if kind else ""), style, members


def _draw_perplexity(axes, frame: pd.DataFrame) -> None:
    for label, style, members in _variants(frame):
        axes.plot(members.clusters, members.perplexity, label=label, **style)


def _draw_recall(axes, frame: pd.DataFrame) -> None:
    for _, style, members in _variants(frame):
        axes.plot(members.clusters, members.recall, **style)
        axes.plot(members.clusters, members.baseline_recall, **BASELINE, color=style["color"])
    axes.plot([], [], **BASELINE, color=GREY, label="one centroid per layer (recall)")


def _draw_references(axes, data: StudyData, model: str, thresholds: set[float]) -> None:
    for records in data.of_model(model).values():
        record = records["perplexity"]
        if record["method"] == "dense":
            axes.axhline(number(record["value"]), color=GREY, linestyle="--", label="dense")
        if record["method"] == "threshold" and record["params"]["sparsity"] in thresholds:
            label = f"thresholds alone, {record['params']['sparsity']:g}"
            axes.axhline(number(record["value"]), color=GREY, linestyle="-.", label=label)

"""Perplexity and recall against the number of centroids K, one line per centroid sparsity."""

import math

import pandas as pd
from matplotlib.figure import Figure

from actsparse.benchmarks.perplexity import Perplexity
from actsparse.kinds.codebook import Codebook
from actsparse.kinds.dense import Dense
from actsparse.kinds.threshold import Threshold
from actsparse.report.figures.data import StudyData, projections_of
from actsparse.report.figures.style import GREY, MARKERS, legend_below, log_scale, panels, ramp
from actsparse.report.tables.records import kind_of, numbers, without_seed

LINES = ("-", "--", "-.", (0, (1, 1)))
BASELINE = {"linestyle": ":", "marker": "_", "markersize": 7, "linewidth": 0.9}
NEEDS = {"codebooks", "perplexity"}  # read without importing, so no name stands for a benchmark's word
# What is measured for each seed.
MEASURED = ("value", "recall", "baseline_recall")
# The axes of the figure itself.
SHOWN = ("clusters", "centroid_sparsity", "projections", "centroids")


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
        kind.params
        | {"baseline_recall": math.nan, "repeats": without_seed(experiment, kind)}
        | row
        | {"value": measured[Perplexity.word]}
        for experiment, records in data.of_model(model).items()
        for kind, measured in [(kind_of(records), numbers(records))]
        for row in kind.rows(records[Perplexity.word])
    ]
    frame = pd.DataFrame(rows).sort_values("clusters", kind="stable")
    frame["kind"] = _kinds(frame)
    return _over_seeds(frame)


def _over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for those that differ in their seeds alone: means, and the spread of the perplexity."""
    same = [frame.repeats, frame.projection]
    means = {name: frame.groupby(same)[name].transform("mean") for name in MEASURED}
    spread = frame.groupby(same).value.transform("std").fillna(0.0)
    return frame.assign(**means, spread=spread).drop_duplicates(["repeats", "projection"])


def _kinds(frame: pd.DataFrame) -> list[str]:
    """Return in which words codebooks differ beyond K and the centroid sparsity; "" where in none."""
    differing = [
        key
        for key in Codebook.keys
        if key not in SHOWN and key in frame and frame[key].nunique(dropna=False) > 1
    ]
    return [
        ", ".join(filter(None, (_said(key, row[key]) for key in differing)))
        for row in frame.to_dict("records")
    ]


def _said(key: str, value: object) -> str:
    """Return how a legend tells the value of a key: nothing of what is not so, or of a usual number."""
    usual = not isinstance(value, str) and value == Codebook.keys[key].get("default")
    if pd.isna(value) or value is False or usual:
        return ""
    words = key.replace("_", " ")
    plain = words if value is True else "{}" if isinstance(value, str) else f"{words} {{:g}}"
    return Codebook.legends.get(key, plain).format(value)


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
        axes.plot(members.clusters, members.value, label=label, **style)
        if members.spread.any():
            low, high = members.value - members.spread, members.value + members.spread
            axes.fill_between(members.clusters, low, high, color=style["color"], alpha=0.25, linewidth=2)


def _draw_recall(axes, frame: pd.DataFrame) -> None:
    for _, style, members in _variants(frame):
        axes.plot(members.clusters, members.recall, **style)
        axes.plot(members.clusters, members.baseline_recall, **BASELINE, color=style["color"])
    axes.plot([], [], **BASELINE, color=GREY, label="one centroid per layer (recall)")


def _draw_references(axes, data: StudyData, model: str, thresholds: set[float]) -> None:
    for records in data.of_model(model).values():
        kind, value = kind_of(records), numbers(records)[Perplexity.word]
        if isinstance(kind, Dense):
            axes.axhline(value, color=GREY, linestyle="--", label=kind.legend)
        if isinstance(kind, Threshold) and kind.target_sparsity in thresholds:
            label = f"thresholds alone, {kind.target_sparsity:g}"
            axes.axhline(value, color=GREY, linestyle="-.", label=label)

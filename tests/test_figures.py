"""Figures are drawn from result files alone, the same bytes each time."""

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import made_up_study
import numpy as np
import pytest
from actsparse.kinds import KINDS
from actsparse.report.figures import figures_of
from actsparse.report.figures.data import read_study
from actsparse.report.figures.series import points
from actsparse.report.figures.style import COLOURS, MARKERS, look
from draw_figures import draw_figures

ROOT = Path(__file__).parent.parent
FIGURES = figures_of(made_up_study.CONFIG, {"evaluations", "codebooks", "thresholds", "active_neurons"})


def study_data(folder):
    files = made_up_study.files(folder)
    return read_study(**files, benchmarks=folder / "benchmarks", config=made_up_study.CONFIG)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return study_data(made_up_study.make_results(tmp_path_factory.mktemp("results")))


def axes_of(data, name):
    return figure_of(data, name).axes


def figure_of(data, name):
    module, columns = FIGURES[name]
    return import_module(f"actsparse.report.figures.{module}").draw(data, *columns)


def test_same_data_same_bytes_in_both_formats(data, tmp_path):
    for folder in ("first", "second"):
        draw_figures(data, "made-up", FIGURES, tmp_path / folder)
    for name in FIGURES:
        for suffix in ("svg", "pdf"):
            first = (tmp_path / "first" / f"{name}.{suffix}").read_bytes()
            assert first == (tmp_path / "second" / f"{name}.{suffix}").read_bytes()
        assert b"study made-up; commit 0000000" in (tmp_path / "first" / f"{name}.svg").read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_has_a_label(data, name):
    axes = axes_of(data, name)
    assert axes[0].get_ylabel() or axes[0].get_yticklabels()[0].get_text()
    assert all(one.get_xlabel() for one in axes)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_caption(name):
    assert (ROOT / f"rules/captions/{FIGURES[name][0]}.rst").exists()


@pytest.mark.parametrize("name", FIGURES)
def test_two_models_stand_beside_each_other(name, tmp_path):
    made_up_study.make_results(tmp_path, "smol")
    made_up_study.make_results(tmp_path, "large")
    assert len(axes_of(study_data(tmp_path), name)) >= 2


def test_every_experiment_is_ranked_best_at_the_top(data):
    [axes] = axes_of(data, "perplexity_ranking")
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels[-1] == "dense" and labels[0] == "weight-2of4"
    assert set(labels) == set(made_up_study.experiments())


def test_bars_are_errors_of_the_distance_to_dense(data):
    nll = {"dense": [2.0, 2.5, 3.0], "act-0.5": [2.3, 2.9, 3.2]}
    results = {
        ("smol", name): {"perplexity": data.results["smol", name]["perplexity"] | {"nll_per_window": values}}
        for name, values in nll.items()
    }
    [axes] = axes_of(replace(data, results=results), "perplexity_ranking")
    bars = [path.vertices for lines in axes.collections for path in lines.get_paths()]
    d = [0.3, 0.4, 0.2]
    error = math.exp(0.3) * math.sqrt(sum((x - 0.3) ** 2 for x in d) / 2 / 3) * made_up_study.DENSE
    shown = results["smol", "act-0.5"]["perplexity"]["value"]
    [bar] = [bar for bar in bars if np.isfinite(bar).all()]
    assert bar[:, 0] == pytest.approx([shown - error, shown + error])


def test_recall_has_its_single_centroid_baseline(data):
    recall = axes_of(data, "codebook_size")[1]
    lines = {(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in recall.get_lines()}
    coverages = [
        (record["params"], record["coverage"]["gate_proj"])
        for records in data.results.values()
        for record in [records["perplexity"]]
        if "coverage" in record
    ]
    for left_out in (0.2, 0.3, 0.4):
        found = [(p["clusters"], c) for p, c in coverages if p["centroid_sparsity"] == left_out]
        for key in ("recall", "baseline_recall"):
            assert tuple(zip(*((clusters, c[key]) for clusters, c in found), strict=True)) in lines


def test_codebooks_are_told_apart_by_what_they_differ_in(data):
    results = dict(data.results)
    for key, changed in (("per_layer", {"scope": "per_layer"}), ("grouped", {"groups": 8})):
        record = results["smol", "codebook-k64-s0.2"]["perplexity"]
        results["smol", key] = {"perplexity": record | {"params": record["params"] | changed}}
    [legend] = figure_of(replace(data, results=results), "codebook_size").legends
    labels = {text.get_text() for text in legend.get_texts()}
    kinds = ("pooled", "per_layer", "groups 8, pooled")
    assert {f"centroid sparsity 0.2, {kind}" for kind in kinds} <= labels


def test_many_methods_with_one_experiment_share_a_place_in_the_legend(data):
    results = dict(data.results)
    record = results["smol", "weight-2of4"]["perplexity"]
    for scorer in range(20):
        params = record["params"] | {"scorer": f"scorer {scorer}"}
        results["smol", f"weight-{scorer}"] = {"perplexity": record | {"params": params}}
    figure = figure_of(replace(data, results=results), "perplexity_sparsity")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "methods with one experiment" in labels and not any("scorer" in label for label in labels)
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) >= 20


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_no_legend_hides_data(data, name):
    figure = figure_of(data, name)
    figure.draw_without_rendering()
    whole = figure.get_tightbbox()
    assert min(whole.x0, whole.y0) >= 0
    assert whole.x1 <= figure.get_figwidth() and whole.y1 <= figure.get_figheight()


def test_a_perplexity_that_is_not_finite_is_no_point(data):
    records = {**data.results["smol", "dense"]}
    records["perplexity"] = records["perplexity"] | {"value": None}
    broken = type(data)({("smol", "dense"): records}, {}, {}, data.jobs)
    assert points(broken, "smol", "perplexity").empty


def test_active_frequency_and_jobs(data):
    [found] = data.active.values()
    assert found["gate_proj"].shape == (made_up_study.LAYERS, 5)
    assert (np.diff(found["gate_proj"], axis=1) >= 0).all()
    assert found["gate_proj"].min() >= 0 and found["gate_proj"].max() <= 1
    assert len(data.jobs) == 12 and "fit_codebook" in set(data.jobs.rule)


def test_a_study_gets_the_figures_it_has_data_for():
    text, items = ({key: made_up_study.CONFIG[key]} for key in ("perplexity", "zero_shot"))
    assert list(figures_of(text, {"evaluations"})) == [
        "perplexity_ranking",
        "perplexity_sparsity",
        "time_memory",
    ]
    assert list(figures_of(items, {"evaluations"})) == ["time_memory"]
    assert list(figures_of({}, {"thresholds"})) == ["thresholds"]
    assert "accuracy_perplexity" in figures_of(text | items, set())


def test_series_and_looks_differ():
    nm = {"pattern": "2:4", "scorer": "wina", "mitigation": "shift_mean"}
    assert KINDS["prune_activations"].of(nm).series() == ["pruned activations", "N:M", "wina", "shift_mean"]
    teal = {"side": "input", "allocation": "greedy", "scorer": "magnitude", "sparsity": 0.5}
    assert KINDS["threshold"].of(teal).series() == ["threshold (inputs)", "greedy"]
    assert KINDS["prune_weights"].of({"pattern": 0.5}).series() == ["pruned weights"]
    looks = {tuple(look(i).values()) for i in range(len(COLOURS) * len(MARKERS))}
    assert len(looks) == len(COLOURS) * len(MARKERS)

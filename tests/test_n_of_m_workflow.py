"""N:M pruning through the workflow: scorers that are calibrated, mitigations that are trained, weights."""

import csv
import json

import pytest
from tiny_study import CONFIG, make_study, run

EXPERIMENTS = {
    "dense": {},
    "act": {"method": "prune_activations", "pattern": "2:4", "scorer": ["magnitude", "clact", "random"]},
    "published": {
        "method": "prune_activations",
        "pattern": "2:4",
        "scorer": "clact",
        "as_published": True,
    },
    "shifted": {"method": "prune_activations", "pattern": 0.5, "mitigation": ["shift", "shift_static"]},
    "low_rank": {"method": "prune_activations", "pattern": "2:4", "mitigation": "low_rank", "rank": 4},
    "trained": {"method": "prune_activations", "pattern": "2:4", "mitigation": "scale_shift"},
    "weight": {"method": "prune_weights", "pattern": "2:4", "scorer": ["wanda", "sparsegpt"]},
    "teal": {"preset": "teal", "sparsity": 0.5},
    "cats": {"preset": "cats", "sparsity": 0.5},
    "upper": {"method": "prune_activations", "pattern": "2:4", "layers": "1", "projections": ["down_proj"]},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    config = {key: value for key, value in CONFIG.items() if key not in ("zero_shot", "tasks")}
    config |= {"experiments": EXPERIMENTS, "training": {"validation_sequences": 2}}
    folder = make_study(tmp_path_factory.mktemp("n_of_m"), config)
    run(folder)
    return folder


def test_every_experiment_has_its_row(study):
    with (study / "results/tiny/tables/results.csv").open() as stream:
        rows = {row["experiment"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 14
    for name in rows.keys() - {"dense", "upper"}:
        exact = name not in ("teal", "cats")  # thresholds meet their sparsity on the calibration text only
        expected = pytest.approx(0.5, abs=1e-3 if exact else 0.05)
        assert float(rows[name]["realised_sparsity"]) == expected, name
    assert rows["upper"]["replaced_linear_layers"] == "1"
    assert rows["published"]["perplexity"] != rows["act-clact"]["perplexity"]
    assert len({row["perplexity"] for row in rows.values()}) == len(rows)


def test_training_reports_each_site(study):
    report = json.loads((study / "results/tiny/trained_parameters/llama/trained.json").read_text())
    assert len(report) == 14
    assert all(site["after"] <= site["before"] for site in report)


def test_only_what_is_needed_is_calibrated(study):
    assert [
        path.name for path in (study / "results/tiny/trained_parameters/llama").glob("*.safetensors")
    ] == ["trained.safetensors"]
    assert [path.name for path in (study / "results/tiny/pruned_weights/llama").iterdir()] == [
        "weight-sparsegpt.safetensors"
    ]

"""Studies that measure only a part of what there is: they end well, or say at once what is missing."""

import csv

import pytest
from tiny_study import CONFIG, make_study, run


def part(*left_out, **changed):
    return {key: value for key, value in CONFIG.items() if key not in left_out} | changed


def rows(study, table):
    with (study / f"results/tiny/tables/{table}.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_thresholds_alone(tmp_path):
    experiments = {"threshold": {"method": "threshold", "sparsity": [0.3, 0.5]}}
    study = make_study(tmp_path / "s", part("perplexity", "zero_shot", "tasks", experiments=experiments))
    run(study)
    found = rows(study, "thresholds")
    assert {(row["sparsity"], row["layer"]) for row in found} == {
        (s, n) for s in ("0.3", "0.5") for n in "01"
    }
    assert (study / "results/tiny/figures/thresholds.svg").exists()
    assert not (study / "results/tiny/tables/shapes.csv").exists()


def test_tasks_alone(tmp_path):
    experiments = {"dense": {}, "act": {"method": "prune_activations", "pattern": "2:4"}}
    study = make_study(tmp_path / "s", part("perplexity", "calibration", experiments=experiments))
    run(study)
    found = rows(study, "results")
    assert [row["experiment"] for row in found] == ["dense", "act"] and "perplexity" not in found[0]
    assert all(0 <= float(row["piqa"]) <= 1 for row in found)
    assert rows(study, "shapes") == []


@pytest.mark.parametrize(
    "experiments", [{"dense": {}}, {"act": {"method": "prune_activations", "pattern": "2:4"}}]
)
def test_nothing_to_measure(tmp_path, experiments):
    config = part("perplexity", "zero_shot", "tasks", "calibration", experiments=experiments)
    told = run(make_study(tmp_path / "s", config), "--dry-run", check=False)
    assert told.returncode == 1
    assert "config: nothing to measure: give one of decode, distance, perplexity, " in told.stdout

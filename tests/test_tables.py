"""Tables are made of result JSONs alone."""

import csv

import pytest
from actsparse.files import write_json
from actsparse.tables import codebooks_table, read_results, results_table, write_table


def record(benchmark, experiment="dense", **values):
    base = {
        "benchmark": benchmark,
        "model": "m",
        "experiment": experiment,
        "method": "codebook",
        "params": {"clusters": 8, "centroid_sparsity": 0.2, "algorithm": "coverage", "scope": "pooled"},
        "realised_sparsity": 0.5,
        "replaced_linear_layers": 90,
        "seconds": 30.0,
    }
    return base | values


@pytest.fixture
def results(tmp_path):
    coverage = {"gate_proj": {"recall": 0.9, "precision": 0.6, "baseline_recall": 0.8}}
    tasks = {"boolq": {"items": 4, "acc": {"value": 0.75, "stderr": 0.1}}}
    records = [
        record("perplexity", value=9.123456789, coverage=coverage),
        record("zero_shot", tasks=tasks, coverage=coverage),
        record("perplexity", "broken", value=None),
        record("zero_shot", "broken", tasks=tasks),
    ]
    paths = []
    for i, entry in enumerate(records):
        write_json(tmp_path / f"{i}.json", entry)
        paths.append(tmp_path / f"{i}.json")
    return read_results(paths)


def test_results(results, tmp_path):
    table = results_table(results, ["boolq"])
    write_table(table, *(tmp_path / f"t.{suffix}" for suffix in ("csv", "md", "tex")))
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert rows[0] == {
        "model": "m",
        "experiment": "dense",
        "method": "codebook",
        "perplexity": "9.123456789",
        "boolq": "0.75",
        "realised_sparsity": "0.5",
        "replaced_linear_layers": "90",
        "runtime_min": "1.0",
    }
    assert rows[1]["perplexity"] == "nan"
    assert " 9.123 |" in (tmp_path / "t.md").read_text()
    assert r"realised\_sparsity" in (tmp_path / "t.tex").read_text()
    assert (tmp_path / "t.md").read_text().count("\n") == 4


def test_codebooks(results):
    table = codebooks_table(results)
    assert len(table) == 1
    assert table.iloc[0].to_dict() == {
        "model": "m",
        "projection": "gate_proj",
        "clusters": 8,
        "centroid_sparsity": 0.2,
        "algorithm": "coverage",
        "scope": "pooled",
        "recall": 0.9,
        "precision": 0.6,
        "baseline_recall": 0.8,
        "perplexity": 9.123456789,
        "experiment": "dense",
    }

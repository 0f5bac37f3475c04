"""Experiments against their references: the table, columns, what is bold, results that keep nothing."""

import csv
import math

import made_up_study
import pytest
import yaml
from actsparse.benchmarks import BENCHMARKS
from actsparse.errors import ConfigError
from actsparse.evaluation.zero_shot import group_weights, per_item
from actsparse.jobs.files import write_json
from actsparse.report.tables.records import numbers
from actsparse.study.loading import load_study
from actsparse.study.tables import declared_tables
from collate_tables import collate
from tiny_study import ROOT

SCHEMA = ROOT / "rules/schemas/config.schema.yaml"
CONFIG = made_up_study.CONFIG
# Mean log-likelihoods of four windows; "near" cannot be told from "best", "far" can.
NLL = {
    "dense": [2.0, 2.5, 3.0, 2.2],
    "best": [2.4, 2.95, 3.5, 2.6],
    "near": [2.5, 2.9, 3.6, 2.6],
    "far": [2.9, 3.46, 4.02, 3.11],
}
BOOLQ = {
    "dense": "111111110000",
    "best": "111111100000",
    "near": "011111110000",
    "far": "000000000000",
}
PIQA = {name: digits[::-1] for name, digits in BOOLQ.items()}
REFERENCES = {"best": "dense", "near": "dense", "far": "best"}


def write_study(folder, keep=True):
    paths = []
    for name, nll in NLL.items():
        about = {
            "model": "smol",
            "experiment": name,
            "method": "dense" if name == "dense" else "prune_activations",
            "params": {} if name == "dense" else {"pattern": "2:4"},
            "realised_sparsity": 0.5 * (name != "dense"),
            "replaced_linear_layers": 0,
            "seconds": 60,
        }
        text = {"benchmark": "perplexity", "value": math.exp(sum(nll) / 4), "stderr": 0.5}
        items = {"boolq": BOOLQ[name], "piqa": PIQA[name]}
        tasks = {
            task: {"items": 12, "acc": {"value": digits.count("1") / 12, "stderr": 0.1}}
            for task, digits in items.items()
        }
        kept = {"nll_per_window": nll, "window_documents": [[i, i, i] for i in range(4)]} if keep else {}
        per_task = {"per_item": {task: {"acc": digits} for task, digits in items.items()}} if keep else {}
        for record in (text | kept, {"benchmark": "zero_shot", "tasks": tasks, **per_task}):
            path = folder / f"{name}-{record['benchmark']}.json"
            write_json(path, about | record)
            paths.append(path)
    return paths


def collated(folder, paths, own=None, references=REFERENCES):
    tables = declared_tables(
        ROOT / "rules/tables.yaml", own or {}, {"evaluations", "comparisons"}, {"dense"}, ["smol"]
    )
    collate(paths, [], tables, CONFIG, folder, references)


def rows_of(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    own = {
        "asked": {
            "source": "evaluations",
            "columns": ["experiment", "perplexity_over_reference", "boolq_minus_reference"],
            "standard_errors": True,
            "caption": "Against references.",
        }
    }
    collated(folder, write_study(folder / "results"), own)
    return folder


def test_each_experiment_against_its_reference(folder):
    rows = {(row["experiment"], row["metric"]): row for row in rows_of(folder / "comparisons.csv")}
    assert [name for name, metric in rows if metric == "boolq"] == ["best", "near", "far"]
    row = rows["best", "perplexity"]
    d = [0.4, 0.45, 0.5, 0.4]
    mean = sum(d) / 4
    error = math.sqrt(sum((x - mean) ** 2 for x in d) / 3 / 4)
    assert float(row["estimate"]) == pytest.approx(math.exp(mean))
    assert float(row["estimate_stderr"]) == pytest.approx(math.exp(mean) * error)
    assert float(row["low"]) == pytest.approx(math.exp(mean - 3.182446 * error), rel=1e-6)
    assert (row["compared"], row["test"], row["interval"]) == ("ratio", "paired t", "t")
    assert (row["pairs"], row["draws"], row["resampled"]) == ("4", "4", "documents")
    row = rows["near", "boolq"]
    assert (float(row["estimate"]), row["test"], row["resampled"]) == (-1 / 12, "McNemar", "items")
    assert float(row["p"]) == 1.0 and rows["far", "boolq"]["reference"] == "best"
    assert float(rows["far", "boolq"]["p"]) == pytest.approx(2 / 2**7)


def test_holms_correction_is_over_the_table(folder):
    rows = rows_of(folder / "comparisons.csv")
    assert len(rows) == 9
    smallest = min(rows, key=lambda row: float(row["p"]))
    assert float(smallest["p_holm"]) == pytest.approx(9 * float(smallest["p"]))
    assert all(float(row["p_holm"]) >= float(row["p"]) for row in rows)


def test_the_ratio_has_a_paired_error(folder):
    rows = {row["experiment"]: row for row in rows_of(folder / "equal_sparsity.csv")}
    d = [0.4, 0.45, 0.5, 0.4]
    mean = sum(d) / 4
    error = math.exp(mean) * math.sqrt(sum((x - mean) ** 2 for x in d) / 3 / 4)
    assert float(rows["best"]["perplexity_over_dense_stderr"]) == pytest.approx(error)
    assert rows["dense"]["perplexity_over_dense_stderr"] == "nan"
    assert f"{math.exp(mean):.3f} ± {error:.3f}" in (folder / "equal_sparsity.md").read_text().replace(
        "*", ""
    )


def test_columns_against_the_reference_are_there_on_request(folder):
    rows = {row["experiment"]: row for row in rows_of(folder / "asked.csv")}
    assert list(rows["far"]) == [
        "experiment",
        "perplexity_over_reference",
        "perplexity_over_reference_stderr",
        "boolq_minus_reference",
        "boolq_minus_reference_stderr",
    ]
    assert float(rows["far"]["boolq_minus_reference"]) == pytest.approx(-7 / 12)
    assert float(rows["far"]["boolq_minus_reference_stderr"]) == pytest.approx(
        math.sqrt((7 * 5**2 + 5 * 7**2) / 12**2 / 11 / 12)
    )
    assert rows["dense"]["boolq_minus_reference"] == "nan"
    assert "perplexity_over_reference" not in rows_of(folder / "results.csv")[0]


def test_bold_is_what_a_test_does_not_tell_from_the_best(folder):
    text = (folder / "results.md").read_text()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    bold = {name: [cell.strip() for cell in line.split("|") if "**" in cell] for name, line in lines.items()}
    perplexity = {name: f"**{math.exp(sum(nll) / 4):.3f}**" for name, nll in NLL.items()}
    assert bold["best"] == [perplexity["best"], "**0.583**", "**0.583**"]
    assert bold["near"] == [perplexity["near"], "**0.583**", "**0.583**"]
    assert bold["far"] == [] and bold["dense"] == []
    assert "does not tell from it" in text.split("\n\n")[0]


def test_where_all_are_as_good_none_is_bold(tmp_path):
    paths = [path for path in write_study(tmp_path / "results") if "far" not in path.name]
    collated(tmp_path, paths)
    assert "**" not in (tmp_path / "results.md").read_text()


def test_results_that_kept_nothing_have_no_pairs(tmp_path):
    collated(tmp_path, write_study(tmp_path / "results", keep=False))
    rows = rows_of(tmp_path / "comparisons.csv")
    assert len(rows) == 9 and {row["estimate"] for row in rows} == {"nan"}
    assert {row["p_holm"] for row in rows} == {"nan"}
    assert "perplexity_over_dense_stderr" not in rows_of(tmp_path / "equal_sparsity.csv")[0]
    text = (tmp_path / "results.md").read_text()
    assert text.count("**") == 2 * 5 and "does not tell from it" not in text  # the best alone, and its ties


def test_results_of_which_some_kept_nothing(tmp_path):
    paths = write_study(tmp_path / "results")
    record = yaml.safe_load((tmp_path / "results/near-perplexity.json").read_text())
    for key in ("nll_per_window", "window_documents"):
        del record[key]
    write_json(tmp_path / "results/near-perplexity.json", record)
    collated(tmp_path, paths)
    rows = {(row["experiment"], row["metric"]): row for row in rows_of(tmp_path / "comparisons.csv")}
    assert rows["near", "perplexity"]["estimate"] == "nan" and rows["near", "perplexity"]["pairs"] == "0"
    assert rows["near", "perplexity"]["draws"] == "0" and rows["near", "perplexity"]["test"] == ""
    assert float(rows["best", "perplexity"]["estimate"]) > 1


def test_a_study_without_evaluations_has_its_tables(tmp_path):
    write_json(tmp_path / "smol/0.5.json", {"up_proj": {"layer_0": 0.1}})
    tables = declared_tables(ROOT / "rules/tables.yaml", {}, {"thresholds"}, {"threshold"}, ["smol"])
    collate([], [tmp_path / "smol/0.5.json"], tables, {"models": {"smol": {}}}, tmp_path, {})
    assert rows_of(tmp_path / "thresholds.csv")[0]["up_proj"] == "0.1"


def test_a_number_is_the_mean_of_its_observations():
    record = {
        "tasks": {
            task: {"items": len(digits), "acc": {"value": digits.count("1") / len(digits), "stderr": 0.1}}
            for task, digits in (("a", "0110"), ("b", "01"), ("c", "111"))
        },
        "per_item": {"a": {"acc": "0110"}, "b": {"acc": "01"}, "c": {"acc": "111"}},
        "headline": dict.fromkeys(["a", "b", "c", "even", "sized"], "acc"),
        "groups": {
            "even": {"acc": {"value": 0.5, "stderr": 0.1}},
            "sized": {"acc": {"value": 5 / 7, "stderr": 0.1}},
        },
        "counted": ["even", "sized"],
    }
    items = {"a": 4, "b": 2, "c": 3}
    uniform = {"tasks": ["a", "b"], "metrics": [{"metric": "acc", "weight_by_size": False}]}
    record["group_weights"] = {
        "even": group_weights(uniform, record["tasks"], items),
        "sized": group_weights({"tasks": ["a", "c"], "metrics": [{"metric": "acc"}]}, record["tasks"], items),
    }
    assert record["group_weights"]["sized"] == {"a": 4 / 7, "c": 3 / 7}
    observed, shown = BENCHMARKS["zero_shot"].observations(record), numbers({"zero_shot": record})
    assert set(observed) == {"a", "b", "c", "even", "sized", "mean_accuracy"}
    for name, found in observed.items():
        parts = found.parts or [None] * len(found.values)
        value = sum(
            weight * sum(v for v, p in zip(found.values, parts, strict=True) if p == part) / parts.count(part)
            for part, weight in (found.weights or {None: 1.0}).items()
        )
        assert value == pytest.approx(shown[name], rel=1e-12)


def test_items_are_kept_as_digits_in_their_order():
    def sample(place, acc, f1, filtered="none"):
        return {"doc_id": place, "filter": filtered, "acc": acc, "f1": f1, "pair": (0, 1), "doc": "long"}

    samples = [sample(2, 1.0, 0.5), sample(0, 0, 0.25), sample(1, 1.0, 0.75), sample(0, 1, 1, "strict")]
    metrics = {
        "items": 3,
        "acc": {"value": 2 / 3, "stderr": 0.1},
        "f1": {"value": 0.5, "stderr": 0.1},
        "pair": {"value": 0.5},
    }
    assert per_item(samples, metrics) == {"acc": "011", "f1": [0.25, 0.75, 0.5]}
    # A metric that is no mean over items, such as a perplexity.
    assert "f1" not in per_item(samples, metrics | {"f1": {"value": math.exp(0.5)}})


def config(**changed):
    return {
        "study": "s",
        "models": {"m": {"source": "hf://some/model"}},
        "corpora": {"c": {"source": "hf://some/text", "name": "n"}},
        "perplexity": {"corpus": "c", "split": "test"},
        "experiments": {
            "dense": {},
            "act": {"method": "prune_activations", "pattern": ["2:4", "8:16"]},
            "weight": {"method": "prune_weights", "pattern": "2:4"},
        },
    } | changed


def test_the_reference_is_dense_or_what_is_named():
    assert load_study(config(), SCHEMA).references == {
        "act-2of4": "dense",
        "act-8of16": "dense",
        "weight": "dense",
    }
    named = config(reference="weight")
    named["experiments"]["act"]["reference"] = "dense"
    assert load_study(named, SCHEMA).references == {
        "dense": "weight",
        "act-2of4": "dense",
        "act-8of16": "dense",
    }
    alone = config(experiments={"weight": {"method": "prune_weights", "pattern": ["2:4", "4:8"]}})
    assert load_study(alone, SCHEMA).references == {}


def test_a_reference_is_nothing_that_jobs_know_of():
    named = config()
    named["experiments"]["act"]["reference"] = "weight"
    study, plain = load_study(named, SCHEMA), load_study(config(), SCHEMA)
    assert study.experiments["act-2of4"].params == plain.experiments["act-2of4"].params


@pytest.mark.parametrize(
    ("study", "experiment", "message"),
    [
        ("act", None, "reference: 'act' is unknown (allowed: act-2of4, act-8of16, dense, weight)"),
        (
            None,
            "nothing",
            "experiments.weight.reference: 'nothing' is unknown (allowed: act-2of4, act-8of16, dense)",
        ),
        (
            None,
            "weight",
            "experiments.weight.reference: 'weight' is itself (allowed: act-2of4, act-8of16, dense)",
        ),
        (
            None,
            ["dense"],
            "experiments.weight.reference: ['dense'] is not allowed (expected string: Experiment that it is "
            "compared with, in place of the study's.)",
        ),
    ],
)
def test_a_reference_that_is_none(study, experiment, message):
    wrong = config(**({"reference": study} if study else {}))
    if experiment:
        wrong["experiments"]["weight"]["reference"] = experiment
    with pytest.raises(ConfigError) as error:
        load_study(wrong, SCHEMA)
    assert str(error.value) == message

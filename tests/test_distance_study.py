"""The benchmark distance: every kind of experiment beside the dense model, in tables and figures."""

import csv
import json

import pytest
import yaml
from actsparse.benchmarks import BENCHMARKS
from actsparse.errors import ConfigError
from actsparse.report.figures import figures_of
from actsparse.study.loading import load_study
from tiny_study import CONFIG, ROOT, make_study, run

SCHEMA = ROOT / "rules/schemas/config.schema.yaml"
TEXT = {"corpus": "facts", "split": "test", "sequence_length": 64, "sequences": 2}
WITHOUT = {key: value for key, value in CONFIG.items() if key not in ("perplexity", "zero_shot")}


EXPERIMENTS = {
    "dense": {},
    "threshold": {"method": "threshold", "sparsity": 0.5},
    "codebook": {"method": "codebook", "threshold": 0.5, "clusters": 4, "centroid_sparsity": 0.2},
    "act": {"method": "prune_activations", "pattern": "2:4"},
    "weight": {"method": "prune_weights", "pattern": "2:4"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Every kind of experiment on a text."""
    asked = {
        "distance": TEXT,
        "experiments": EXPERIMENTS,
        "tables": {
            "distances": {
                "source": "evaluations",
                "columns": ["experiment", "kl", "logit_rms"],
                "standard_errors": True,
                "caption": "Distances.",
            }
        },
    }
    del (config := WITHOUT | asked)["tasks"]
    folder = make_study(tmp_path_factory.mktemp("distance"), config)
    run(folder)
    return folder


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Flips alone."""
    asked = {
        "distance": {"tasks": ["boolq", "piqa"], "limit": 6, "batch_size": 2},
        "experiments": {key: EXPERIMENTS[key] for key in ("dense", "act")},
        "tables": {
            "choices": {
                "source": "evaluations",
                "columns": ["experiment", "choices_kl"],
                "standard_errors": True,
                "caption": "KL over choices.",
            }
        },
    }
    del (config := WITHOUT | asked)["calibration"]
    folder = make_study(tmp_path_factory.mktemp("items"), config)
    run(folder)
    return folder


def record(study, experiment):
    return json.loads((study / f"results/tiny/evaluations/llama/{experiment}/distance.json").read_text())


def rows(study, table):
    with (study / f"results/tiny/tables/{table}.csv").open() as lines:
        return {row["experiment"]: row for row in csv.DictReader(lines)}


def test_dense_is_measured_and_is_no_distance_from_itself(study):
    found = record(study, "dense")
    for name in ("kl", "logit_rms", "tenfold_falls"):
        assert found[name]["value"] == 0.0 and found[name]["per_window"] == [0.0, 0.0]
    assert found["top1_agreement"]["value"] == 1.0


def test_every_kind_of_experiment_has_its_distance(study):
    found = rows(study, "results")
    assert found.keys() == EXPERIMENTS.keys()
    for experiment, row in found.items():
        kl = record(study, experiment)["kl"]
        assert float(row["kl"]) == kl["value"] == sum(kl["per_window"]) / 2
        assert (float(row["kl"]) > 0) == (experiment != "dense")
        assert 0 <= float(row["top1_agreement"]) <= 1
        assert "logit_rms" not in row and "flips" not in row
    # On request.
    for experiment, row in rows(study, "distances").items():
        assert float(row["kl_stderr"]) == record(study, experiment)["kl"]["stderr"]
        assert (float(row["logit_rms"]) > 0) == (experiment != "dense")


def test_figures_and_captions(study):
    for figure in ("kl_ranking", "kl_sparsity"):
        assert (study / f"results/tiny/figures/{figure}.svg").exists()
    caption = (study / "results/tiny/tables/results.md").read_text()
    assert "Distance to the dense model on 2 windows of 64 tokens of facts" in caption


def test_kl_is_drawn_against_speed_where_that_is_measured():
    config = {"distance": TEXT | {"tasks": []}, "decode": {}}
    assert figures_of(config, set())["kl_speed"] == ("against", ("kl", "ms_per_token"))
    assert "kl_speed" not in figures_of({"distance": config["distance"]}, set())


def test_the_dense_side_is_made_once(study, items):
    (text,) = (study / "results/tiny/predictions").rglob("*.*")
    (answers,) = (items / "results/tiny/answers").rglob("*.*")
    assert (text.name, answers.name) == ("distance.safetensors", "distance.json")
    assert not (study / "results/tiny/answers").exists()
    assert not (items / "results/tiny/predictions").exists()


def test_dense_answers_flip_nowhere(items):
    for task in ("boolq", "piqa"):
        found = record(items, "dense")["answers"][task]
        assert found["items"] == 6
        for name in ("flips", "right_to_wrong", "wrong_to_right", "choices_kl"):
            assert found[name] == {"value": 0.0, "stderr": 0.0, "per_item": [0.0] * 6}


def test_flips_are_means_over_tasks(items):
    row, answers = rows(items, "results")["act"], record(items, "act")["answers"]
    for name in ("flips", "right_to_wrong", "wrong_to_right"):
        values = [answers[task][name]["per_item"] for task in ("boolq", "piqa")]
        assert float(row[name]) == pytest.approx(sum(map(sum, values)) / 12)
    assert "kl" not in row and "choices_kl" not in row
    kl = [answers[task]["choices_kl"] for task in ("boolq", "piqa")]
    row = rows(items, "choices")["act"]
    assert float(row["choices_kl"]) == pytest.approx((kl[0]["value"] + kl[1]["value"]) / 2)
    assert float(row["choices_kl"]) > 0
    error = (kl[0]["stderr"] ** 2 + kl[1]["stderr"] ** 2) ** 0.5 / 2
    assert float(row["choices_kl_stderr"]) == pytest.approx(error)


def test_a_study_of_items_alone_has_no_figure_of_texts(items):
    assert not list((items / "results/tiny/figures").glob("kl*"))
    caption = (items / "results/tiny/tables/results.md").read_text()
    assert "Flipped answers on the first 6 items of boolq, piqa, 0-shot." in caption


def loaded(tmp_path, **distance):
    config = WITHOUT | {"distance": distance}
    tasks = {key: CONFIG["tasks"][key] for key in distance.get("tasks", [])}
    return load_study(config | {"tasks": tasks}, SCHEMA, make_study(tmp_path))


def test_a_text_or_items_are_enough(tmp_path):
    text = loaded(tmp_path / "text", **TEXT)
    assert set(text.benchmarks["distance"].reads(text.config)) == {"windows", "predictions"}
    names = {column.name for column in BENCHMARKS["distance"].columns(text.config)}
    assert names == {"kl", "top1_agreement", "tenfold_falls", "logit_rms"}
    items = loaded(tmp_path / "items", tasks=["boolq", "piqa"])
    assert set(items.benchmarks["distance"].reads(items.config)) == {"tasks", "answers"}
    names = {column.name for column in BENCHMARKS["distance"].columns(items.config)}
    assert names == {"flips", "right_to_wrong", "wrong_to_right", "choices_kl"}
    assert BENCHMARKS["distance"].tokens_at_once(items.config) == 8 * 512


@pytest.mark.parametrize(
    ("distance", "told"),
    [
        ({}, r"distance: nothing to measure \(give corpus and split, tasks, or both\)"),
        ({"corpus": "facts"}, r"distance.split: missing \(required with a text\)"),
        ({"split": "test", "tasks": ["boolq"]}, r"distance.corpus: missing"),
        (TEXT | {"limit": 5}, r"distance.limit: would be ignored \(there are no distance.tasks\)"),
        ({"tasks": ["boolq"], "sequences": 5}, r"distance.sequences: would be ignored"),
        ({"tasks": ["boolk"]}, "distance.tasks: 'boolk' is unknown"),
        (
            {"tasks": ["boolq", "piqa", "gsm8k"]},
            r"'gsm8k' is not allowed \(its output_type is generate_until, allowed: multiple_choice\)",
        ),
        (TEXT | {"corpus": "fact"}, r"distance.corpus: 'fact' .*allowed: facts"),
        (TEXT | {"sequence_length": 1024}, "distance.sequence_length: windows of 1024 tokens are longer"),
        (TEXT | {"sequence_length": 1}, "distance.sequence_length: 1 is not allowed"),
        (TEXT | {"window": 1}, "distance.window: unknown key"),
    ],
)
def test_bad_configs_are_refused(tmp_path, distance, told):
    config = yaml.safe_load(yaml.safe_dump(WITHOUT | {"distance": distance}))
    with pytest.raises(ConfigError, match=told):
        load_study(config, SCHEMA, make_study(tmp_path))

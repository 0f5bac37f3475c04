"""docs/adding-a-method.md, followed word for word."""

import csv
import re

import yaml
from tiny_study import CONFIG, ROOT, copy_workflow, make_study, run


def test_the_page_adds_a_scorer(tmp_path):
    page = (ROOT / "docs/adding-a-method.md").read_text()
    code, line = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (experiments,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    target, registry = re.findall(r"`(workflow_scripts/\S+?\.py)`", page)

    workflow = copy_workflow(tmp_path / "workflow")
    (workflow / target).write_text(code)
    words = (workflow / registry).read_text()
    (workflow / registry).write_text(words.replace("SCORERS = {\n", "SCORERS = {\n" + line))

    config = {key: value for key, value in CONFIG.items() if key not in ("zero_shot", "calibration", "tasks")}
    study = make_study(tmp_path / "study", config | yaml.safe_load(experiments))
    run(study, workflow=workflow)
    with (study / "results/tiny/tables/results.csv").open() as stream:
        rows = {row["experiment"]: row for row in csv.DictReader(stream)}
    assert set(rows) == {"dense", "act-magnitude", "act-centred"}
    assert rows["act-centred"]["realised_sparsity"] == "0.5"
    assert rows["act-centred"]["perplexity"] != rows["act-magnitude"]["perplexity"]

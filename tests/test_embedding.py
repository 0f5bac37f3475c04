"""docs/embedding.md: the workflow as a module of another one."""

import os
import re
import subprocess
import sys

from tiny_study import CONFIG, ROOT, make_study

PAGE = (ROOT / "docs/embedding.md").read_text()
DEFAULT = f'module actsparse:\n    snakefile:\n        "{ROOT}/Snakefile"\n\n\nuse rule * from actsparse\n'


def call(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores=2", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_a_study_of_another_workflow_runs(tmp_path):
    config = {key: CONFIG[key] for key in ("study", "models", "corpora", "perplexity")}
    experiments = {"dense": {}, "act": {"method": "prune_activations", "pattern": "2:4"}}
    study = make_study(tmp_path / "study", config | {"experiments": experiments})
    (snakefile,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (study / "Snakefile").write_text(snakefile.replace("ADDRESS", str(ROOT)))
    call(study)
    assert "act" in (study / "results/tiny/tables/results.md").read_text()


def test_without_a_config_it_is_the_default_study(tmp_path):
    (tmp_path / "Snakefile").write_text(DEFAULT)
    assert "results/demo/tables/results.csv" in call(tmp_path, "--dry-run")

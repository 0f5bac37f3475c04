"""docs/embedding.md: the workflow as a module of another one."""

import os
import re
import shutil
import subprocess
import sys

from tiny_study import CONFIG, ROOT, make_study

PAGE = (ROOT / "docs/embedding.md").read_text()
DEFAULT = f'module actsparse:\n    snakefile:\n        "{ROOT}/Snakefile"\n\n\nuse rule * from actsparse\n'


AUTHOR = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]


def call(folder, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores=2", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == code, done.stdout[-4000:]
    return done.stdout


def test_a_study_of_another_workflow_runs(tmp_path):
    config = {key: CONFIG[key] for key in ("study", "models", "corpora", "perplexity")}
    experiments = {"dense": {}, "act": {"method": "prune_activations", "pattern": "2:4"}}
    study = make_study(tmp_path / "study", config | {"experiments": experiments})
    (snakefile,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (study / "Snakefile").write_text(snakefile.replace("ADDRESS", str(ROOT)))
    call(study)
    assert "act" in (study / "results/tiny/tables/results.md").read_text()


def test_an_address_that_is_no_clone_is_refused_in_one_line(tmp_path):
    """As `snakedeploy deploy-workflow` writes it, but for a repository on this machine."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "rules", repository / "rules")
    shutil.copy(ROOT / "Snakefile", repository)
    for command in (["init", "-qb", "main"], ["add", "."], [*AUTHOR, "commit", "-qm", "."]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    caller = tmp_path / "caller"
    (caller / "workflow").mkdir(parents=True)
    (caller / "workflow/Snakefile").write_text(
        DEFAULT.replace(f"{ROOT}/Snakefile", f"git+file://{repository}/Snakefile@main")
    )
    told = call(caller, "--dry-run", code=1)
    assert "can be imported from a clone only" in told and "Traceback" not in told


def test_without_a_config_it_is_the_default_study(tmp_path):
    (tmp_path / "Snakefile").write_text(DEFAULT)
    assert "results/demo/tables/results.csv" in call(tmp_path, "--dry-run")

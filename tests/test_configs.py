"""The studies in configs/: each is valid, and plans the jobs that it should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from actsparse.study.loading import load_study

ROOT = Path(__file__).parent.parent
CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]


def study(path, root):
    return load_study(yaml.safe_load(path.read_text()), ROOT / "rules/schemas/config.schema.yaml", root)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid(path):
    assert study(path, ROOT).experiments


def test_two_models_are_measured_as_the_default_studys_one():
    default, two = (
        yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", "configs/two_models.yaml")
    )
    assert two["models"].keys() - default["models"].keys() == {"gemma3-270m"}
    del two["models"]["gemma3-270m"]
    assert two | {"study": default["study"]} == default


def test_the_offline_grid_is_the_papers(tmp_path):
    paper, offline = (
        study(ROOT / f"configs/nm_activation_pruning{suffix}.yaml", tmp_path) for suffix in ("", "_offline")
    )
    assert offline.experiments == paper.experiments
    sources = [
        entry["source"] for entry in [*offline.config["models"].values(), *offline.config["tasks"].values()]
    ]
    assert all(source.startswith("pypi://") for source in sources)


@pytest.mark.parametrize(
    ("name", "models"), [("nm_activation_pruning", 4), ("nm_activation_pruning_offline", 1)]
)
def test_the_n_of_m_grids_plan_every_evaluation(name, models, tmp_path):
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet=rules", "--cores=8"]
    command += [f"--snakefile={ROOT / 'Snakefile'}", f"--directory={tmp_path}"]
    command += [
        f"--configfile={ROOT / 'configs' / name}.yaml",
        f"--workflow-profile={ROOT / 'profiles/default'}",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", told.stdout + told.stderr, re.MULTILINE))
    experiments = len(study(ROOT / f"configs/{name}.yaml", tmp_path).experiments)
    expected = {"evaluate": 2 * experiments}
    expected |= {"train_mitigation": 6, "prune_weights": 3, "measure_statistics": 1}
    assert {rule: int(counts[rule]) for rule in expected} == {r: n * models for r, n in expected.items()}

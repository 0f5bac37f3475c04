"""Things that several test modules share and that are slow to make."""

import os
import subprocess
import sys
from pathlib import Path

# Kernels for GPUs run in Triton's interpreter, on any machine; Triton reads this when it is imported.
os.environ["TRITON_INTERPRET"] = "1"

import pytest
import yaml
from actsparse.artifacts import Places, origin
from actsparse.study.loading import load_study
from filelock import FileLock
from hypothesis import settings
from tiny_study import ROOT, copy_workflow, make_study, run

# Two tests run at a time; threads of torch that wait for each other by spinning would take the other's core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Machines that run tests are busy; a slow example is no failure.
settings.register_profile("actsparse", deadline=None)
settings.load_profile("actsparse")


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory) -> tuple[Path, Path]:
    """A tiny study that has run undisturbed, and the copy of the workflow that ran it."""
    folder = tmp_path_factory.mktemp("finished")
    study, workflow = make_study(folder / "study"), copy_workflow(folder / "workflow")
    run(study, "--benchmark-extended", workflow=workflow)
    return study, workflow


@pytest.fixture(scope="session")
def default_config() -> dict:
    """The config of the default study, defaults filled in."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    return load_study(config, ROOT / "rules/schemas/config.schema.yaml").config


def fetched(path: str) -> Path:
    """A resource of the default study, fetched by the workflow unless it lies there."""
    call = [sys.executable, "-m", "snakemake", "--cores=2", "--quiet=all", "--", path]
    with FileLock(ROOT / ".pytest_cache/fetched.lock"):  # a folder takes one Snakemake run at a time
        subprocess.run(call, cwd=ROOT, check=True, timeout=600)
    return ROOT / path


@pytest.fixture(scope="session")
def real_model(default_config) -> Path:
    """The manifest of the default study's model; the model's folder lies beside it."""
    return fetched(Places(default_config).path("model", "smollm2-135m"))


@pytest.fixture(scope="session")
def real_corpus(default_config) -> Path:
    """The test split of the default study's text."""
    name = f"wikipedia-{origin(default_config['corpora']['wikipedia'])}/test"
    return fetched(Places(default_config).path("corpus", name=name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With ACTSPARSE_NO_SKIPS set, a skipped test has failed: where everything can be had, all must run.

    Only tests that need a GPU may still be skipped; their reasons say so.
    """
    report = yield
    if os.environ.get("ACTSPARSE_NO_SKIPS") and report.skipped and "GPU" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, though ACTSPARSE_NO_SKIPS is set: {report.longrepr[2]}"
    return report

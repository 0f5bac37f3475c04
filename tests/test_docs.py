"""Every command of README, pages and configs is run here, by another test, or marked with what it needs."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tiny_study import CONFIG, ROOT, copy_workflow

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "configs").glob("*.yaml")),
    *(ROOT / name / "README.md" for name in ("published", "results")),
]
PROGRAMS = "make|snakemake|python|pip|git|unzip|sha256sum|conda"


@dataclass
class Run:
    """A command that is run in a finished study; `instead` is a smaller one, where it is too large."""

    instead: str | None = None


@dataclass
class Elsewhere:
    """A command that another test runs, or that .ci/run does."""

    by: str


@dataclass
class Needs:
    """A command that needs what the tests do not have; `checked` is what is run of it all the same."""

    what: str
    checked: str | None = None


@dataclass
class Like:
    """A command that is run in another's words."""

    command: str


HUB_AND_GPU = "the hub and GPUs"
HOURS = "hours"
DRY = "--dry-run --quiet"
CODEBOOK = "coverage-pooled-t0.5-k4-s0.2"

PRUNE_TIMED = (
    'python -m timeit -p -n 20 -s \'import sys; sys.path.insert(0, "workflow_scripts"); import torch '
    "torch.set_num_threads(1); from actsparse.methods.patterns.n_of_m import NOfM; p = NOfM(8, 16) "
    "x, s = torch.randn(2048, 1536).bfloat16(), torch.rand(2048, 1536)' 'p.prune(x, s)'"
)

COMMANDS = {
    # README
    "git clone <this repository> actsparse && cd actsparse": Needs("the address of the repository"),
    "make demo": Elsewhere("test_docs.py::test_the_demo_ends_with_its_tables_and_where_the_report_is_made"),
    "conda env create --name actsparse --file envs/snakemake.yaml && conda activate actsparse": Needs(
        "conda"
    ),
    "snakemake --cores 8 --use-conda": Needs("conda"),
    "snakemake --cores 1 --use-conda --conda-create-envs-only": Needs("conda"),
    "snakemake --cores all --configfile my_study.yaml": Run(),
    "snakemake --cores 1 tables": Run(),
    "make report": Run(),
    "make report STUDY=my_study.yaml": Run(),
    "make archive STUDY=my_study.yaml": Run(),
    "make lint": Elsewhere(".ci/run"),
    "make test": Elsewhere(".ci/run"),
    "make test-slurm": Elsewhere(".ci/run"),
    # benchmarks
    "python benchmarks/overhead.py results/demo --wall 915 --slots 2": Run(),
    "python benchmarks/nm_masking.py resources/models/smollm2-135m-*/": Run(
        "python benchmarks/nm_masking.py model --length 64 --rounds 1 --threads 1"
    ),
    "python benchmarks/gpu_check.py": Needs("a GPU", "python benchmarks/gpu_check.py --help"),
    PRUNE_TIMED: Needs("a quiet machine"),
    "python benchmarks/codebook_step.py": Run(
        "python benchmarks/codebook_step.py --rows 256 --width 64 --clusters 16 --threads 1"
    ),
    "python benchmarks/streaming_memory.py": Run("python benchmarks/streaming_memory.py 256"),
    "python benchmarks/rehearsal.py": Needs("a quiet machine", "python benchmarks/rehearsal.py --help"),
    "python benchmarks/dag.py": Run("python benchmarks/dag.py --experiments 20 --models 1"),
    "python benchmarks/codebook_memory.py": Needs("minutes", "python benchmarks/codebook_memory.py --help"),
    "python benchmarks/codebook_evaluation.py resources/models/smollm2-135m-*.json --threads 2": Needs(
        "the default study's model", "python benchmarks/codebook_evaluation.py --help"
    ),
    "python benchmarks/decode_peers.py resources/models/smollm2-135m-*/ --shapes 135m": Run(
        "python benchmarks/decode_peers.py model --shapes 135m --dtypes f32 --tokens 4 --rounds 1 --threads 1"
    ),
    "python benchmarks/slurm_overhead.py": Needs("a SLURM", "python benchmarks/slurm_overhead.py --help"),
    # other pages
    "python workflow_scripts/show_tables.py results/demo/tables/results.md": Run(),
    "pip install snakemake-logger-plugin-rich": Needs("a plugin that is not installed here"),
    "pip install mutmut": Needs("a tool that is not installed here"),
    "snakemake --cores all --logger rich": Needs("a plugin that is not installed here"),
    "python workflow_scripts/document_config.py": Run(),
    "snakemake --configfile FILE": Like("snakemake --cores all --configfile my_study.yaml"),
    "snakemake -n --configfile configs/...": Like("snakemake -n"),
    "snakemake -n": Run("snakemake -n --cores 1"),
    "snakemake --forcerun RULE": Run("snakemake --cores 1 --forcerun describe_results"),
    "snakemake tables": Like("snakemake --cores 1 tables"),
    "snakemake archive": Like("make archive STUDY=my_study.yaml"),
    "snakemake results/<study>/exports/<model>/<codebook>": Run(
        f"snakemake --cores 1 results/demo/exports/llama/{CODEBOOK}"
    ),
    "python workflow_scripts/restore_study.py demo.crate.zip": Elsewhere(
        "test_report.py::test_tables_and_figures_are_made_again_without_a_model"
    ),
    "snakemake tables figures --cores 2 --configfile results/demo/config.yaml": Elsewhere(
        "test_report.py::test_tables_and_figures_are_made_again_without_a_model"
    ),
    "sha256sum --check SHA256SUMS": Elsewhere("test_report.py::test_the_archive_is_a_crate_with_checksums"),
}
# Commands that name one of configs/ need what its study needs; each is planned here.
STUDIES = {
    "clustering_mistral_7b": HUB_AND_GPU,
    "codebooks": HOURS,
    "methods_at_equal_sparsity": HOURS,
    "nm_activation_pruning": HUB_AND_GPU,
    "nm_activation_pruning_offline": HOURS,
    "rotations": HOURS,
    "routers": HOURS,
    "thresholds": HUB_AND_GPU,
}


def commands_of(page: str) -> set[str]:
    """The commands in fenced and indented blocks, in comments of a config, and between backticks."""
    page = re.sub(r" {2,}#.*", "", page)
    quoted = r"(?:[^'\n]|'[^']*')*"  # what stands between quotes may run over several lines
    lines = re.findall(rf"^(?:\$ |    |#     )((?:{PROGRAMS}) {quoted})$", page, re.MULTILINE)
    inline = re.findall(rf"`((?:{PROGRAMS}) [^`]+)`", page)
    return {" ".join(command.split()) for command in [*lines, *inline]}


def config_of(command: str) -> str | None:
    named = re.search(r"--configfile configs/(\w+)\.yaml", command)
    return named and named[1]


ALL = {command: page for page in PAGES for command in sorted(commands_of(page.read_text()))}
# One for each study: the last, so that the profiles are preferred.
PLANNED = {config_of(command): command for command in sorted(ALL) if config_of(command)}
RUN = {command: entry.instead or command for command, entry in COMMANDS.items() if isinstance(entry, Run)}
RUN |= {
    command: entry.checked
    for command, entry in COMMANDS.items()
    if isinstance(entry, Needs) and entry.checked
}


def test_every_command_has_an_entry_and_every_entry_a_command():
    missing = {
        command: page.name
        for command, page in ALL.items()
        if (config_of(command) not in STUDIES if config_of(command) else command not in COMMANDS)
    }
    assert not missing, "say in COMMANDS or STUDIES how these are tested"
    assert set(COMMANDS) <= set(ALL), "no page has these any more"
    assert {entry.command for entry in COMMANDS.values() if isinstance(entry, Like)} <= set(COMMANDS)


@pytest.mark.parametrize("entry", [entry for entry in COMMANDS.values() if isinstance(entry, Elsewhere)])
def test_the_named_test_exists(entry):
    if entry.by.startswith("."):
        command = next(command for command, found in COMMANDS.items() if found is entry)
        assert f"{command}\n" in (ROOT / entry.by).read_text()
    else:
        file, _, name = entry.by.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text()


@pytest.fixture(scope="module")
def clone(finished_study, tmp_path_factory) -> Path:
    """A clone whose default study is a tiny one, finished but for its tables and figures, and installed."""
    made, _ = finished_study
    folder = copy_workflow(tmp_path_factory.mktemp("clones") / "actsparse")
    for name in ("configs", "docs", "benchmarks", "Makefile", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "tests/slurm", folder / "tests/slurm")
    for path in made.iterdir():
        if path.name not in (".snakemake", "results", "config.yaml"):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, folder / path.name)
    shutil.copytree(made / "results/tiny", folder / "results/demo")
    for name in ("tables", "figures"):
        shutil.rmtree(folder / "results/demo" / name)
    for name in ("config.yaml", "my_study.yaml"):
        (folder / name).write_text(yaml.safe_dump(CONFIG | {"study": "demo"}, sort_keys=False))
    (folder / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (folder / ".venv/installed").touch()
    return folder


def run_in(folder: Path, command: str) -> str:
    """Run a command line in a clone, with its environment active, and return what it printed."""
    # The make that runs the tests is none of a command's business.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=environment | {"PATH": f"{folder}/.venv/bin:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.mark.parametrize("command", RUN)
def test_a_command_runs(clone, command):
    assert "Fetching model" not in run_in(clone, RUN[command])


@pytest.mark.parametrize("study", PLANNED)
def test_a_study_of_configs_is_planned(clone, study):
    assert "evaluate" in run_in(clone, f"{PLANNED[study]} {DRY} rules")


def test_the_demo_ends_with_its_tables_and_where_the_report_is_made(clone):
    printed = run_in(clone, "make demo")
    *_, last = printed.splitlines()
    assert "threshold" in printed and "…" not in printed
    assert "results/demo/tables/" in last and "make report" in last


def test_links_within_the_repository_lead_somewhere():
    for page in PAGES:
        text = re.sub(r"`[^`]*`", "", page.read_text()) if page.suffix == ".md" else ""
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"

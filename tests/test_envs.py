"""The conda environments: each holds what the scripts of its rules import, in the pinned versions.

Imports are read from the source, through the library, at any depth. (Under Snakemake a missing package may go
unnoticed, because the host's packages are on a script's path, too.) In place of conda, which has no channel
here, a plain virtual environment is made of what an environment gives to pip.
"""

import ast
import re
import subprocess
import sys
import venv
from importlib.metadata import packages_distributions
from pathlib import Path

import pin_environments
import pytest
import yaml
from tiny_study import ROOT

SCRIPTS = ROOT / "workflow_scripts"
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
# The one that Snakemake itself runs in, not its jobs.
OWN = ROOT / "envs/snakemake.yaml"
RULE = re.compile(r"^rule \w+:.*?(?=^rule |\Z)", re.MULTILINE | re.DOTALL)


def normal(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    lines = (ROOT / "envs/constraints.txt").read_text().split()
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def requirements(environment: Path) -> dict[str, str]:
    """What pip installs in an environment, by name; each with an exact version."""
    entries = yaml.safe_load(environment.read_text())["dependencies"]
    [from_pip] = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return {normal(name): version for name, version in (entry.split("==") for entry in from_pip)}


def scripts_by_environment() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rules in (ROOT / "rules").glob("*.smk"):
        for rule in RULE.findall(rules.read_text()):
            script = re.search(r'"\.\./workflow_scripts/(\w+\.py)"', rule)
            environment = re.search(r'"\.\./envs/(\w+\.yaml)"', rule)
            assert environment or not script, rule
            if script:
                found.setdefault(environment[1], set()).add(script[1])
    return found


def module_file(module: str) -> Path | None:
    path = SCRIPTS.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports(path: Path, builds: bool) -> set[str]:
    """Every module that a file imports; if it `builds`, in kinds and benchmarks too, or loads by a word."""
    modules = set()
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Try) and any("ImportError" in ast.unparse(h) for h in node.handlers):
            continue  # may be missing, as the code says
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef) and path.parent.name in LATE and not builds:
            continue
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Family" and builds:
            modules.update(modules_in(path.parent))
    return modules


def modules_in(room: Path) -> list[str]:
    files = [file for file in room.glob("*.py") if file.stem != "__init__"]
    return [".".join(file.relative_to(SCRIPTS).with_suffix("").parts) for file in files]


# Kinds and benchmarks import what they build and measure with when they do.
LATE = ("kinds", "benchmarks")


# Torch's builds for GPUs bring it along, and only there is it imported.
OF_TORCH = {"triton"}


def outside_imports(script: str) -> set[str]:
    """The packages beyond the standard library that a script imports, itself or through the library."""
    builds = "import load\n" in (SCRIPTS / script).read_text()
    pending, reached, outside = [SCRIPTS / script], set(), set()
    if builds:
        pending += [file for room in LATE for file in (SCRIPTS / "actsparse" / room).glob("*.py")]
    while pending:
        path = pending.pop()
        if path in reached:
            continue
        reached.add(path)
        for module in imports(path, builds):
            package = module.split(".")[0]
            if package == "actsparse":
                parents = [module.rsplit(".", depth)[0] for depth in range(module.count(".") + 1)]
                pending.extend(filter(None, map(module_file, parents)))
            elif package not in sys.stdlib_module_names | OF_TORCH:
                outside.add(package)
    return outside


@pytest.mark.parametrize(
    ("environment", "script"),
    [
        (name, script)
        for name, scripts in sorted(scripts_by_environment().items())
        for script in sorted(scripts)
    ],
)
def test_an_environment_holds_what_its_scripts_import(environment, script):
    installed = requirements(ROOT / "envs" / environment)
    distributions = packages_distributions()
    for package in sorted(outside_imports(script)):
        assert package in distributions, f"{script} imports {package}, which is not installed here"
        names = {normal(name) for name in distributions[package]}
        assert names & installed.keys(), f"envs/{environment} lacks {package}, which {script} imports"


def test_imports_are_found_at_any_depth():
    assert {"torch", "transformers", "safetensors", "lm_eval"} <= outside_imports("evaluate.py")
    assert "torch" not in outside_imports("collate_tables.py")


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_versions_are_the_pinned_ones(environment):
    versions = pinned()
    for name, version in requirements(environment).items():
        assert versions[name] == version, f"{environment.name}: {name}"


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_channels_are_strict(environment):
    """conda-forge alone: `nodefaults` is a channel that is not there to newer versions of conda."""
    assert yaml.safe_load(environment.read_text())["channels"] == ["conda-forge"]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_are_written_from_what_is_needed(environment):
    """All that is needed is pinned, so that an environment is the same wherever it is made."""
    assert environment.read_text() == pin_environments.environment(environment.stem), (
        "run `python workflow_scripts/pin_environments.py`"
    )


def test_what_a_package_needs_is_found_at_any_depth_and_for_linux_alone():
    assert {"lm-eval", "sacrebleu", "colorama"} <= pin_environments.needed(["lm_eval"])  # one after the other
    assert "colorama" not in pin_environments.needed(["tqdm"])  # for Windows
    with pytest.raises(ValueError, match="no-such-package: is not installed"):
        pin_environments.needed(["no-such-package"])


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_what_pip_is_given_makes_an_environment_that_is_whole(environment, tmp_path):
    """Every package is there in its version, no other is, and all imports of all scripts find theirs."""
    entries = yaml.safe_load(environment.read_text())["dependencies"]
    [from_pip] = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    (tmp_path / "requirements.txt").write_text("\n".join(from_pip))
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"

    def run(*arguments):
        done = subprocess.run(
            [python, "-I", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert not done.returncode, done.stdout
        return done.stdout

    run("-m", "pip", "install", "--quiet", "-r", str(tmp_path / "requirements.txt"))
    assert run("-m", "pip", "check").strip().endswith("No broken requirements found.")
    listed = run("-m", "pip", "list", "--format=freeze").split()
    installed = {
        normal(name): version for name, version in (line.split("==") for line in listed if "==" in line)
    }
    extra = {name for name in installed if name not in requirements(environment)}
    assert extra <= {"pip", "setuptools", "triton"} | {
        name for name in extra if name.startswith(("nvidia-", "cuda-"))
    }
    scripts = scripts_by_environment().get(environment.name, ())
    packages = set().union({"snakemake"} if environment == OWN else (), *map(outside_imports, scripts))
    run("-c", f"import {', '.join(sorted(packages))}")


def test_every_environment_is_used():
    assert {ROOT / "envs" / name for name in scripts_by_environment()} == {*ENVIRONMENTS} - {OWN}


def test_environments_and_installation_have_one_python():
    pythons = {
        entry
        for environment in ENVIRONMENTS
        for entry in yaml.safe_load(environment.read_text())["dependencies"]
        if isinstance(entry, str) and entry.startswith("python")
    }
    assert len(pythons) == 1


def test_a_changed_version_reruns_what_it_is_used_by():
    """Jobs depend on the versions of their environment, by `pins`, and not on its file."""
    for rules in (ROOT / "rules").glob("*.smk"):
        for rule in RULE.findall(rules.read_text()):
            environment = re.search(r'"\.\./envs/(\w+)\.yaml"', rule)
            if environment and "code=" in rule:
                assert f'pins=pins("{environment[1]}")' in rule, rule
    for profile in (ROOT / "profiles").glob("*/config.yaml"):
        assert "software-env" not in profile.read_text()

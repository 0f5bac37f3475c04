"""A study that runs the whole workflow in seconds: tiny model, little text, few items, every method."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from tiny import tiny_llama

ROOT = Path(__file__).parent.parent
WORKFLOW_FILES = ("Snakefile", "config.yaml", "rules", "envs", "profiles", "published", "workflow_scripts")

CONFIG = {
    "study": "tiny",
    "models": {"llama": {"source": "model"}},
    "corpora": {"facts": {"source": "facts.jsonl", "format": "jsonl"}},
    "tasks": {
        "boolq": {"source": "boolq.jsonl", "format": "hub"},
        "piqa": {"source": "piqa.jsonl", "format": "hub"},
    },
    "calibration": {"corpus": "facts", "split": "train", "sequence_length": 64, "sequences": 8},
    "perplexity": {"corpus": "facts", "split": "test", "sequence_length": 64, "sequences": 2},
    "zero_shot": {"tasks": ["boolq", "piqa"], "limit": 6},
    "codebooks": {"patterns": 512, "steps": 3},
    "experiments": {
        "dense": {},
        "threshold": {"method": "threshold", "sparsity": 0.5},
        "codebook": {
            "method": "codebook",
            "threshold": 0.5,
            "clusters": 4,
            "centroid_sparsity": 0.2,
            "scope": ["pooled", "per_layer"],
        },
        "act": {"method": "prune_activations", "pattern": ["2:4", 0.5]},
        "weight": {"method": "prune_weights", "pattern": "2:4"},
    },
}


def make_study(folder: Path, config: dict | None = None) -> Path:
    """Write the tiny model, text and items to `folder`, and the study's config; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_llama(folder / "model")
    draw = random.Random(0)
    nouns, places, verbs = (
        ["river", "castle", "language"],
        ["Norway", "Anatolia"],
        ["described", "discovered"],
    )
    sentences = [
        f"The {draw.choice(nouns)} of {draw.choice(places)} was {draw.choice(verbs)} in {year}."
        for year in range(1000, 1400)
    ]
    _write_lines(
        folder / "facts.jsonl", [{"text": " ".join(sentences[i : i + 10])} for i in range(0, 400, 10)]
    )
    questions = [
        {"passage": s, "question": s.lower()[:-1], "label": i % 2} for i, s in enumerate(sentences[:8])
    ]
    _write_lines(folder / "boolq.jsonl", questions)
    goals = [{"goal": s, "sol1": s[:20], "sol2": s[20:], "label": i % 2} for i, s in enumerate(sentences[:8])]
    _write_lines(folder / "piqa.jsonl", goals)
    (folder / "config.yaml").write_text(yaml.safe_dump(config or CONFIG, sort_keys=False))
    return folder


def copy_workflow(folder: Path) -> Path:
    """Copy the workflow to `folder`, for tests that edit it; return the folder."""
    folder.mkdir(parents=True)
    for name in WORKFLOW_FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / name)
    return folder


def command(study: Path, *arguments: str, workflow: Path = ROOT) -> list[str]:
    """The Snakemake call that runs a study folder with a workflow."""
    return [
        sys.executable,
        "-m",
        "snakemake",
        f"--snakefile={workflow / 'Snakefile'}",
        f"--directory={study}",
        f"--configfile={study / 'config.yaml'}",
        f"--workflow-profile={workflow / 'profiles/default'}",
        "--cores=2",
        *arguments,
    ]


def run(
    study: Path, *arguments: str, workflow: Path = ROOT, check: bool = True
) -> subprocess.CompletedProcess:
    """Run Snakemake on a study and return what it printed; `check` demands success."""
    done = subprocess.run(
        command(study, *arguments, workflow=workflow),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    return done


def planned(study: Path, *arguments: str, workflow: Path = ROOT) -> set[str]:
    """The rules that a dry run says it would run."""
    lines = run(study, "--dry-run", *arguments, workflow=workflow).stdout.splitlines()
    known = {path.stem for path in (workflow / "workflow_scripts").glob("*.py")}
    return {line.split()[0] for line in lines if line.split() and line.split()[0] in known}


def tables(study: Path) -> dict[str, list[list[str]]]:
    """Every table file as cells, without the column that holds times."""
    found = {}
    separators = {".csv": ",", ".md": "|", ".tex": "&", ".html": "</t"}
    for path in sorted(study.glob("results/tiny/tables/*")):
        separator = separators[path.suffix]
        rows = [line.split(separator) for line in path.read_text().splitlines()]
        header = next(row for row in rows if len(row) > 2)
        timed = [i for i, cell in enumerate(header) if "runtime" in cell]
        found[path.name] = [[c for i, c in enumerate(row) if i not in timed] for row in rows]
    return found


def _write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

"""What it takes to plan a large study: jobs, processor and wall seconds, and peak memory of `snakemake -n`.

    python benchmarks/dag.py [--experiments 1000] [--models 4]

A quarter of the experiments are codebooks, each fitted for every model; a quarter have thresholds of their
own; the rest prune inputs and weights. Each is evaluated by two benchmarks. Nothing of the study exists yet.
Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}


def study(experiments: int, models: int) -> dict[str, Any]:
    """Return the config of a study of so many experiments (a multiple of 20) on so many models."""
    quarter = experiments // 4
    fractions = [round(0.1 + 0.8 * i / quarter, 5) for i in range(quarter)]
    return {
        "study": "planned",
        "models": {
            f"model-{i}": {"source": f"hf://org/model-{i}", "dtype": "bfloat16", "shape": SHAPE}
            for i in range(models)
        },
        "corpora": {"text": {"source": "hf://org/text"}},
        "calibration": {"corpus": "text", "split": "train", "sequence_length": 2048, "sequences": 32},
        "perplexity": {"corpus": "text", "split": "test", "sequence_length": 2048},
        "zero_shot": {"tasks": ["boolq", "piqa"], "batch_size": 16},
        "experiments": {
            "codebook": {
                "method": "codebook",
                "threshold": 0.5,
                "clusters": [16 + i for i in range(quarter // 5)],
                "centroid_sparsity": [0.1, 0.2, 0.3, 0.4, 0.5],
            },
            "threshold": {"method": "threshold", "sparsity": fractions},
            "act": {"method": "prune_activations", "pattern": fractions},
            "weight": {"method": "prune_weights", "pattern": fractions},
        },
    }


def plan(config: dict[str, Any]) -> dict[str, float]:
    """Run `snakemake -n` on a config in a folder of its own; return what it took.

    `dag_seconds` end when the number of jobs is known, `wall_seconds` when each of them is printed. Raises
    RuntimeError with its last words when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "config.yaml"
        given.write_text(yaml.safe_dump(config))
        start = time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", "--dry-run", "--cores=8"),
                *(f"--snakefile={ROOT / 'Snakefile'}", f"--directory={folder}"),
                *(f"--configfile={given}", f"--workflow-profile={ROOT / 'profiles/default'}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        lines, counted, jobs = [], None, 0
        for line in process.stdout:
            lines.append(line)
            if counted is None and line.startswith("total "):
                counted, jobs = time.perf_counter() - start, int(line.split()[1])
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    if status:
        raise RuntimeError("".join(lines)[-3000:])
    return {
        "jobs": jobs,
        "dag_seconds": counted,
        "wall_seconds": wall,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_mb": used.ru_maxrss / 2**10,
        "printed_mb": sum(map(len, lines)) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--models", type=int, default=4)
    options = parser.parse_args()
    took = plan(study(options.experiments, options.models))
    for what, value in took.items():
        print(f"{what:20s} {value:10.1f}")
    print(json.dumps(took))


if __name__ == "__main__":
    main()

"""A plan of a thousand experiments is made in seconds."""

import json
import subprocess
import sys

from tiny_study import ROOT


def planned(experiments: int) -> dict:
    """What planning takes, in a process of its own: on Linux a new process's peak memory begins with its
    parent's, and that of the tests may be gigabytes."""
    printed = subprocess.run(
        [sys.executable, ROOT / "benchmarks/dag.py", f"--experiments={experiments}", "--models=4"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    ).stdout
    return json.loads(printed.splitlines()[-1])


def test_a_thousand_experiments_on_four_models_are_planned_in_linear_time_and_under_a_gigabyte():
    """In how many seconds, docs/scaling.md tells; on another processor it is three times as many."""
    took, few = planned(1000), planned(200)
    # By two benchmarks; 1,000 codebooks and 1,000 thresholds; what each model, the text and the tables need.
    assert took["jobs"] == 8000 + 1000 + 1000 + 4 * 6 + 4 + 5
    assert took["peak_memory_mb"] < 1000
    assert took["processor_seconds"] < 7 * few["processor_seconds"]

"""What SLURM and Snakemake cost per job: 100 short jobs on a SLURM of one node, started on this machine.

    python benchmarks/slurm_overhead.py [--jobs 100] [--seconds 6] [--slots 16] [--ways one array group]

Each job asks for a (pretended) GPU and sleeps; `--slots` of them run at a time. They are submitted through
profiles/slurm one by one (`one`), as an array (`array`), and ten to a submission, in turn (`group`). Prints
a table and, as its last line, one JSON object. Needs root, and Debian's slurm-wlm and munge.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "slurm"))

from cluster import Cluster, missing

ROOT = Path(__file__).parents[1]

SNAKEFILE = """
rule all:
    input: expand("done/{{number}}", number=range({jobs}))

rule work:
    output: "done/{{number}}"
    params: seconds={seconds}
    resources: gpu=1, mem_mb=100, runtime=10
    script: "work.py"
"""
WORK = """
import time
from pathlib import Path

time.sleep(snakemake.params.seconds)
Path(snakemake.output[0]).touch()
"""
WAYS = {
    "one": [],
    "array": ["--slurm-array-jobs=work"],
    "group": [
        *("--groups=work=some", "--group-components=some=10"),
        # One GPU for the whole group, whose jobs thus run one after the other.
        *("--resources=gpu=1", "--set-resource-scopes=gpu=local"),
    ],
}
# Processes of SLURM's jobs leave their parents. This one adopts them, and writes their processor time.
ADOPT = """
import ctypes, os, resource, signal, subprocess, sys

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
slurmd = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: slurmd.terminate())
while os.wait()[0] != slurmd.pid:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(str(used.ru_utime + used.ru_stime))
"""


def run(folder: Path, way: str, jobs: int, seconds: float, slots: int) -> dict[str, float]:
    """Run the jobs on a cluster of their own in `folder`; return what they took."""
    (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs, seconds=seconds))
    (folder / "work.py").write_text(WORK)
    processors = folder / "processors.txt"
    cluster = Cluster(folder / "cluster", slots, (sys.executable, "-c", ADOPT, str(processors)))
    try:
        cluster.start()
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with (folder / "printed.txt").open("w") as printed:
            subprocess.run(
                [
                    *(sys.executable, "-m", "snakemake", f"--directory={folder}"),
                    *(f"--snakefile={folder}/Snakefile", f"--workflow-profile={ROOT / 'profiles/slurm'}"),
                    *("--slurm-no-account", "--set-threads", "work=1", *WAYS[way]),
                ],
                stdout=printed,
                stderr=subprocess.STDOUT,
                check=True,
            )
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = cluster.call("scontrol", "--oneliner", "show", "jobs")
    finally:
        cluster.stop()
    submitted, started, ended = (
        [datetime.fromisoformat(text).timestamp() for text in re.findall(rf" {key}Time=(\S+)", shown)]
        for key in ("Submit", "Start", "End")
    )
    submit_host = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_seconds": wall,
        "ideal_seconds": jobs * seconds / slots,
        "submissions": len(set(re.findall(r"(?:SLURM jobid|SLURM job ID) (\d+)", printed_text(folder)))),
        "submission_seconds_per_job": (max(submitted) - min(submitted)) / jobs,
        "node_seconds_per_job": sum(ended) / jobs - sum(started) / jobs - seconds,
        "node_processor_seconds_per_job": float(processors.read_text()) / jobs,
        "submit_host_processor_seconds_per_job": submit_host / jobs,
    }


def printed_text(folder: Path) -> str:
    """What Snakemake printed."""
    return (folder / "printed.txt").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument(
        "--slots", type=int, default=16, help="jobs at a time; the node has 16 pretended CPUs"
    )
    options = parser.parse_args()
    if (reason := missing()) is not None:
        raise SystemExit(reason)
    took = {}
    for way in options.ways:
        with tempfile.TemporaryDirectory() as folder:
            took[way] = run(Path(folder), way, options.jobs, options.seconds, options.slots)
    rows = [[what, *(took[way][what] for way in took)] for what in next(iter(took.values()))]
    print(tabulate(rows, headers=["", *took], floatfmt=".2f"))
    print(json.dumps(took))


if __name__ == "__main__":
    main()

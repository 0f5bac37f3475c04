"""Where a study's time went: models at work, or starting jobs, loading and scheduling.

    python benchmarks/overhead.py results/demo --wall SECONDS --slots 2

`--wall` is what the run took and `--slots` how many jobs ran at a time (2 with two cores). Evaluations record
the time of their measurement; what they take beyond it is the time to start a job. Of the other jobs that run
a model or fit a codebook, all but that start counts as work.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

COMPUTING = ("measure_histograms", "extract_patterns", "fit_codebook")


def job_seconds(results: Path) -> dict[str, list[float]]:
    """Return the seconds of every job by rule, from the benchmark files."""
    seconds = defaultdict(list)
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        with path.open() as stream:
            rule = path.relative_to(results / "benchmarks").parts[0]
            seconds[rule] += [float(row["s"]) for row in csv.DictReader(stream, delimiter="\t")]
    return seconds


def work_seconds(results: Path) -> float:
    """Return the seconds that evaluations spent measuring."""
    return sum(json.loads(path.read_text())["seconds"] for path in results.glob("evaluations/*/*/*.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--wall", type=float, required=True, help="seconds that the run took")
    parser.add_argument("--slots", type=int, required=True, help="jobs at a time")
    options = parser.parse_args()
    jobs, measured = job_seconds(options.results), work_seconds(options.results)
    evaluations = [s for rule, seconds in jobs.items() if rule.startswith("evaluate_") for s in seconds]
    start = (sum(evaluations) - measured) / len(evaluations)
    others = [s for rule in COMPUTING for s in jobs.get(rule, [])]
    work = measured + sum(max(0.0, seconds - start) for seconds in others)
    print(f"{'rule':24s} {'jobs':>5s} {'seconds':>9s}")
    for rule, seconds in sorted(jobs.items(), key=lambda item: -sum(item[1])):
        print(f"{rule:24s} {len(seconds):5d} {sum(seconds):9.1f}")
    total = options.wall * options.slots
    print(f"{'start of a job':30s} {start:9.1f}")
    print(f"{'work':30s} {work:9.1f}")
    print(f"{'slots x wall':30s} {total:9.1f}")
    print(json.dumps({"overhead_share": 1 - work / total}))


if __name__ == "__main__":
    main()

"""The result JSONs of a study, and the numbers that tables and figures take from them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from actsparse.benchmarks import BENCHMARKS
from actsparse.columns import STDERR
from actsparse.jobs.files import read_json
from actsparse.kinds import KINDS, Kind

Records = dict[str, dict[str, Any]]
Results = dict[tuple[str, str], Records]


def read_results(paths: Iterable[str | Path]) -> Results:
    """Return {(model, experiment): {benchmark: record}} in the order of `paths`."""
    results: Results = {}
    for path in paths:
        record = read_json(path)
        results.setdefault((record["model"], record["experiment"]), {})[record["benchmark"]] = record
    return results


def by_benchmark(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each benchmark."""
    found: dict[str, list[dict[str, Any]]] = {}
    for records in results.values():
        for word, record in records.items():
            found.setdefault(word, []).append(record)
    return found


def applied(records: Records) -> dict[str, Any]:
    """Return the first record of a benchmark that multiplied the scheme's zeros, and counted them."""
    return next((record for record in records.values() if "realised_sparsity" in record), {})


def kind_of(records: Records) -> Kind:
    """Return the experiment that results are of."""
    first = next(iter(records.values()))
    return KINDS[first["method"]].of(first["params"])


def without_seed(experiment: str, kind: Kind) -> str:
    """Return the name that an experiment shares with those that differ from it in their seed alone."""
    return experiment.removesuffix(f"-seed{kind.params.get('seed')}")


def numbers(records: Records) -> dict[str, float]:
    """Return {column: value, column_stderr: its standard error} of all benchmarks of an experiment."""
    found = {}
    for word, record in records.items():
        for column, (value, stderr) in BENCHMARKS[word].numbers(record).items():
            found |= {column: value, column + STDERR: stderr}
    return found

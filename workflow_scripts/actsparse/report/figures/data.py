"""What figures are drawn from: the files of a study, read without torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actsparse.columns import Column
from actsparse.jobs.files import read_json
from actsparse.report.tables.comparisons import Paired
from actsparse.report.tables.records import Results, by_benchmark, read_results
from actsparse.study.tables import benchmark_columns

Site = tuple[str, str]
FIRST = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class StudyData:
    """A study as figures see it; what it lacks is empty.

    results: {(model, experiment): {benchmark: record}}.
    thresholds: {(model, sparsity): {projection: float (layers)}}.
    active: {(model, sparsity): {projection: part of the tokens that neurons are active for, (layers, 5)}},
        the 5, 25, 50, 75 and 95 % quantiles over the neurons of a layer.
    jobs: one row per job with the columns rule, job, seconds, memory_gb.
    columns: those of the benchmarks, by name.
    """

    results: Results
    thresholds: dict[Site, dict[str, np.ndarray]]
    active: dict[Site, dict[str, np.ndarray]]
    jobs: pd.DataFrame
    columns: dict[str, Column] = field(default_factory=dict)

    def column(self, name: str) -> Column:
        """Return a column of the benchmarks."""
        return self.columns.get(name, Column(name))

    @cached_property
    def paired(self) -> Paired:
        """The results, to be compared with each other."""
        return Paired(self.results, self.columns)

    @property
    def models(self) -> list[str]:
        """The models, in the order of the results; of a study without any, those that have thresholds."""
        return list(dict.fromkeys(model for model, _ in self.results or self.thresholds))

    def of_model(self, model: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Return {experiment: {benchmark: record}} of one model."""
        return {experiment: found for (name, experiment), found in self.results.items() if name == model}


def projections_of(found: Iterable[Iterable[str]]) -> list[str]:
    """Return the projections in all of `found`, in the order in which a token meets them."""
    names = dict.fromkeys(name for some in found for name in some)
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def read_study(
    results: Iterable[Path],
    thresholds: Iterable[Path],
    active: Iterable[Path],
    benchmarks: Path,
    config: dict[str, Any],
) -> StudyData:
    """Read result JSONs, thresholds and summaries of active neurons (both <model>/<sparsity>.json), and the
    folder of Snakemake's benchmark files (<rule>/<job>.tsv); `config` is the study's, validated."""
    found = read_results(results)
    columns = benchmark_columns(config, by_benchmark(found))
    return StudyData(
        results=found,
        thresholds={_site(Path(path)): _by_layer(read_json(path)) for path in thresholds},
        active={_site(Path(path)): _quantiles(read_json(path)) for path in active},
        jobs=read_jobs(Path(benchmarks)),
        columns={column.name: column for column in columns},
    )


def read_jobs(folder: Path) -> pd.DataFrame:
    """Return rule, job, seconds (wall time) and memory_gb (largest resident set, 2^30 bytes) of each job.

    The memory of a job that ended before Snakemake read it is NaN.
    """
    rows = []
    for path in sorted(folder.glob("*/**/*.tsv")):
        rule, *job = path.relative_to(folder).with_suffix("").parts
        measured = pd.read_csv(path, sep="\t", na_values="NA").iloc[0]
        rows.append((rule, "/".join(job), measured["s"], (measured["max_rss"] or math.nan) / 1024))
    return pd.DataFrame(rows, columns=["rule", "job", "seconds", "memory_gb"])


def _site(path: Path) -> Site:
    return path.parent.name, path.name.removesuffix(".json")


def _by_layer(thresholds: dict[str, dict[str, float]]) -> dict[str, np.ndarray]:
    return {
        projection: np.array([layers[f"layer_{layer}"] for layer in range(len(layers))])
        for projection, layers in thresholds.items()
    }


def _quantiles(summary: dict) -> dict[str, np.ndarray]:
    return {projection: np.array(layers) for projection, layers in summary["projections"].items()}

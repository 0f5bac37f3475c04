"""Experiments compared pair by pair: with their references, the dense model, the best of a table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from actsparse.benchmarks import BENCHMARKS
from actsparse.columns import STDERR, Column
from actsparse.observations import Observations
from actsparse.report.paired import LEVEL, Pairs, holm, interval, p_value, pair, standard_error
from actsparse.report.tables.records import Results
from actsparse.study.tables import COMPARISONS


@dataclass(frozen=True)
class Comparison:
    """A number of one experiment against the same of another.

    how: "ratio" of numbers that are exp of a mean, or "difference" of means.
    """

    first: Observations
    second: Observations
    how: str

    @property
    def pairs(self) -> Pairs:
        """The differences; made when asked for, since those of a whole study would fill the memory."""
        return pair(self.first, self.second)

    @cached_property
    def value(self) -> float:
        """The ratio or difference, over the pairs; NaN where it is not finite."""
        return self._shown(self.pairs.mean)

    @cached_property
    def stderr(self) -> float:
        """Its standard error; of a ratio by the delta method, ratio times that of its logarithm."""
        error = standard_error(self.pairs)
        return error * self.value if self.how == "ratio" else error

    @cached_property
    def test(self) -> tuple[float, str]:
        """The two-sided p-value of no difference, and the test's name."""
        return p_value(self.pairs)

    @cached_property
    def whole(self) -> bool:
        """Whether both were measured on the pairs alone, so that their numbers are of the pairs."""
        return len(self.pairs.differences) == len(self.first.values) == len(self.second.values)

    @property
    def equal(self) -> bool:
        """Whether the test at 5 % does not tell the two apart."""
        return self.test[0] >= LEVEL

    @cached_property
    def interval(self) -> tuple[float, float, str]:
        """The 95 % interval, and how it was made."""
        low, high, made = interval(self.pairs)
        return self._shown(low), self._shown(high), made

    def _shown(self, mean: float) -> float:
        with np.errstate(over="ignore"):
            value = float(np.exp(mean)) if self.how == "ratio" else mean
        return value if math.isfinite(value) else math.nan


class Paired:
    """The results of a study, to be compared with each other.

    results: {(model, experiment): {benchmark: record}}.
    columns: those of the benchmarks; the ones that say how they are `paired` can be compared.
    references: {experiment: the one that it is compared with}.
    """

    def __init__(
        self, results: Results, columns: Mapping[str, Column], references: Mapping[str, str] | None = None
    ):
        self.columns, self.references, self.results = columns, dict(references or {}), results
        self.compare = cache(self._compare)
        self._observed = cache(self._observations)

    @cached_property
    def has_pairs(self) -> bool:
        """Whether any result keeps what it is the mean of."""
        return any(self._observed(*key) for key in self.results)

    def _observations(self, model: str, experiment: str) -> dict[str, Observations]:
        found: dict[str, Observations] = {}
        for word, record in self.results.get((model, experiment), {}).items():
            found |= BENCHMARKS[word].observations(record)
        return found

    def _compare(self, model: str, experiment: str, other: str, column: str) -> Comparison | None:
        """Return how two experiments on a model compare; None where they have no pairs."""
        about = self.columns.get(column, Column(column))
        name = about.derived_from or column
        how = self.columns.get(name, about).paired
        first, second = (self._observed(model, each).get(name) for each in (experiment, other))
        if how is None or first is None or second is None:
            return None
        found = Comparison(first, second, how)
        return found if len(found.pairs.differences) else None

    def against_reference(self, model: str, experiment: str, column: str) -> Comparison | None:
        """Return how an experiment compares with its reference; None where it has none, or no pairs."""
        other = self.references.get(experiment)
        return self.compare(model, experiment, other, column) if other else None


def comparisons(paired: Paired) -> pd.DataFrame:
    """Return one row per (model, experiment, headline column that can be compared) of those with a reference.

    Columns: those of `COMPARISONS`, and `estimate_stderr`. Low and high are the 95 % interval; p_holm is
    corrected over all rows; `draws` are the independent ones among the pairs, `resampled` says what they are.
    A row that has no pairs has no numbers.
    """
    rows: list[dict[str, Any]] = []
    measured = [column for column in paired.columns.values() if column.headline and column.paired]
    for model, experiment in paired.results:
        for column in measured if experiment in paired.references else ():
            about = {"model": model, "experiment": experiment, "reference": paired.references[experiment]}
            about |= {"metric": column.name, "compared": column.paired}
            rows.append(about | _numbers(paired.against_reference(model, experiment, column.name)))
    table = pd.DataFrame(rows, columns=[*(column.name for column in COMPARISONS), "estimate" + STDERR])
    table["p_holm"] = holm(table.p)
    return table


def _numbers(found: Comparison | None) -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(["estimate", "estimate" + STDERR, "low", "high", "p"], math.nan) | {
            "pairs": 0,
            "draws": 0,
        }
    low, high, made = found.interval
    (p, test), pairs = found.test, found.pairs
    return {
        "estimate": found.value,
        "estimate" + STDERR: found.stderr,
        "low": low,
        "high": high,
        "interval": made,
        "p": p,
        "test": test,
        "pairs": len(pairs.differences),
        "draws": pairs.draws,
        "resampled": pairs.resampled,
    }

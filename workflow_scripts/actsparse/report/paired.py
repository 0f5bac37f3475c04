"""Two results on the same windows or items, paired: difference, standard error, interval and p-value.

docs/decisions/paired-statistics.md says why it is these.
"""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from actsparse.observations import Observations

# Of tests and intervals.
LEVEL = 0.05
# With fewer independent differences there is too little to resample or to rank: of four windows, the smallest
# p-value of the signed-rank test is 0.125, and a plain bootstrap interval holds the truth four times in five.
FEW = 20
DRAWS = 9_999
# Numbers that a step of resampling holds at most.
AT_ONCE = 2**22


@dataclass(frozen=True)
class Pairs:
    """Differences of two results, one for each window or item that both have.

    differences: float64 (n), of the first less the second.
    parts, groups: int (n), which mean a difference is part of and, inside it, which independent draw it is
        of; groups are numbered from 0 in each part.
    weights: float64 (parts), of the means.
    counted: whether every value was 0 or 1.
    resampled: what independent draws are, in the plural.
    """

    differences: np.ndarray
    parts: np.ndarray
    groups: np.ndarray
    weights: np.ndarray
    counted: bool
    resampled: str

    @property
    def mean(self) -> float:
        """The weighted sum of the parts' mean differences; NaN where one has none, or one that is not
        finite."""
        with np.errstate(invalid="ignore"):
            return float(sum(w * sums.sum() / sizes.sum() for w, sums, sizes in self.by_part()))

    def by_part(self) -> Iterable[tuple[float, np.ndarray, np.ndarray]]:
        """Yield (weight, sums, sizes) of each part: sum and number of differences of each of its groups."""
        for part, weight in enumerate(self.weights):
            mine = self.parts == part
            sums = np.bincount(self.groups[mine], self.differences[mine])
            yield weight, sums, np.bincount(self.groups[mine])

    @property
    def draws(self) -> int:
        """How many of the differences, or of their groups, are independent."""
        return sum(len(sums) for _, sums, _ in self.by_part())

    @property
    def freedom(self) -> int:
        """The degrees of freedom of the standard error."""
        return self.draws - len(self.weights)


def pair(first: Observations, second: Observations) -> Pairs:
    """Return the differences of what both results have, in the order of the first."""
    ours, other = (np.array(each.values, dtype=np.float64) for each in (first, second))
    shared = range(len(ours))
    if (first.source, _named(first)) != (second.source, _named(second)):
        places = {
            key: place for place, key in enumerate(_keys(second) if first.source == second.source else [])
        }
        keys = _keys(first)
        shared = [place for place, key in enumerate(keys) if key in places]
        ours, other = ours[shared], other[[places[keys[place]] for place in shared]]
    weights = first.weights or {"": 1.0}
    names = {name: number for number, name in enumerate(weights)}
    part, group = np.zeros(len(shared), dtype=np.int64), np.arange(len(shared))
    if first.parts is not None:
        part = np.array([names[first.parts[place]] for place in shared], dtype=np.int64)
    named = group if first.groups is None else [first.groups[place] for place in shared]
    for number in range(len(names)):
        mine = np.flatnonzero(part == number)
        group[mine] = np.unique([named[row] for row in mine], return_inverse=True)[1]
    counted = bool(len(shared)) and bool(np.isin([ours, other], (0, 1)).all())
    resampled = first.of if first.groups is None else first.grouped or first.of
    return Pairs(ours - other, part, group, np.array([*weights.values()]), counted, resampled)


def standard_error(pairs: Pairs) -> float:
    """Return the standard error of `Pairs.mean`; NaN where a part has fewer than two independent draws.

    Of the mean of G groups with n differences in all it is sqrt(G / (G - 1) * sum of squares of the groups'
    summed deviations from the mean) / n (Cameron and Miller, J. Human Resources 50, 2015); where
    each group is one difference, that is the usual standard deviation / sqrt(n).
    """
    variance = 0.0
    for weight, sums, sizes in pairs.by_part():
        count, total = len(sums), sizes.sum()
        if count < 2:
            return math.nan
        deviations = sums - sizes * (sums.sum() / total)
        variance += weight**2 * count / (count - 1) * float(deviations @ deviations) / float(total) ** 2
    return math.sqrt(variance)


def p_value(pairs: Pairs) -> tuple[float, str]:
    """Return the two-sided p-value of no difference, and which test it is of; NaN where there is none.

    Counted: McNemar's exact test. With parts it is of all of them at once: each pair that differs is as
    likely to do so one way as the other, so the mean is held against `DRAWS` random sums of signs. Else, with
    `FEW` independent draws or more, Wilcoxon's signed-rank test of the groups' means. Else, or with parts,
    Student's t of the mean over its standard error.
    """
    if not math.isfinite(pairs.mean):
        return math.nan, ""
    if pairs.counted:
        return _signs(pairs)
    if len(pairs.weights) == 1 and pairs.draws >= FEW:
        ((_, sums, sizes),) = pairs.by_part()
        means = sums / sizes
        return (float(stats.wilcoxon(means).pvalue) if means.any() else 1.0), "signed-rank"
    error = standard_error(pairs)
    if math.isnan(error):
        return math.nan, ""
    if error == 0:
        return float(pairs.mean == 0), "paired t"
    return float(2 * stats.t.sf(abs(pairs.mean) / error, pairs.freedom)), "paired t"


def interval(pairs: Pairs) -> tuple[float, float, str]:
    """Return the 95 % interval of `Pairs.mean` and how it was made; NaN where there is none.

    With `FEW` independent draws or more, a percentile bootstrap over these, part by part, its quantiles moved
    out because it is too narrow (Hesterberg, The American Statistician 69, 2015). Else Student's t. The same
    differences give the same interval.
    """
    error = standard_error(pairs)
    if not math.isfinite(pairs.mean) or math.isnan(error):
        return math.nan, math.nan, ""
    quantile = stats.t.ppf(1 - LEVEL / 2, pairs.freedom)
    if pairs.draws < FEW:
        return pairs.mean - quantile * error, pairs.mean + quantile * error, "t"
    random = np.random.default_rng(0)
    drawn = sum(weight * _resampled(sums, sizes, random) for weight, sums, sizes in pairs.by_part())
    tail = stats.norm.cdf(-quantile * math.sqrt(pairs.draws / pairs.freedom))
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high), "bootstrap"


def holm(p_values: Iterable[float]) -> list[float]:
    """Return Holm's corrected p-values (Scand. J. Statistics 6, 1979), NaN for NaN, which does not count."""
    given = np.array(list(p_values), dtype=np.float64)
    corrected = np.full(len(given), math.nan)
    order = [i for i in np.argsort(given, kind="stable") if not math.isnan(given[i])]
    steps = [min(1.0, given[i] * (len(order) - rank)) for rank, i in enumerate(order)]
    corrected[order] = np.maximum.accumulate(steps) if steps else []
    return corrected.tolist()


def _named(observed: Observations) -> tuple:
    """Return what tells which observations these are; two that have the same have the same keys."""
    return len(observed.values), observed.keys, observed.parts


def _keys(observed: Observations) -> list:
    """Return the keys; by default, the part and the place in it."""
    if observed.keys is not None:
        return list(observed.keys)
    parts = observed.parts or [None] * len(observed.values)
    places: dict[Hashable, int] = {}
    found = []
    for part in parts:
        places[part] = places.get(part, -1) + 1
        found.append((part, places[part]))
    return found


def _signs(pairs: Pairs) -> tuple[float, str]:
    better, differing = (
        np.array([(mine * (pairs.parts == part)).sum() for part in range(len(pairs.weights))])
        for mine in (pairs.differences > 0, pairs.differences != 0)
    )
    if not differing.any():
        return 1.0, "McNemar"
    if len(pairs.weights) == 1:
        return float(stats.binomtest(int(better[0]), int(differing[0])).pvalue), "McNemar"
    scale = pairs.weights / np.bincount(pairs.parts, minlength=len(pairs.weights))
    random = np.random.default_rng(0)
    sums = (2 * random.binomial(differing, 0.5, (DRAWS, len(scale))) - differing) @ scale
    as_far = np.abs(sums) >= abs(pairs.mean) * (1 - 1e-9)
    return (1 + int(as_far.sum())) / (1 + DRAWS), "signs"


def _resampled(sums: np.ndarray, sizes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the means of `DRAWS` resamples of groups; those with one sum and size are drawn at once."""
    found, times = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    step = max(1, AT_ONCE // len(found))
    means = []
    for begin in range(0, DRAWS, step):
        drawn = random.multinomial(len(sums), times / len(sums), min(step, DRAWS - begin))
        means.append(drawn @ found[:, 0] / (drawn @ found[:, 1]))
    return np.concatenate(means)

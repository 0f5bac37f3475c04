"""Paired statistics: each formula written out, and what simulated studies make of them."""

import math
from itertools import product

import numpy as np
import pytest
from actsparse.observations import Observations
from actsparse.report.paired import FEW, holm, interval, p_value, pair, standard_error
from scipy import stats

STUDIES = 400
# The default study: four windows, whose log-likelihoods differ more from each other than methods do.
WINDOWS, MEAN, SPREAD = 4, 2.6, 0.3
# Standard deviation over windows of the log-ratio of two methods: of threshold-0.3 and dense, measured.
NOISE = 0.019


def windows(values, **more):
    return Observations(np.asarray(values, dtype=float), "windows", **more)


def test_ratio_and_error_of_windows():
    first, second = [2.0, 2.5, 3.1], [1.9, 2.2, 3.0]
    d = [0.1, 0.3, 0.1]
    mean = sum(d) / 3
    error = math.sqrt(sum((x - mean) ** 2 for x in d) / 2) / math.sqrt(3)
    pairs = pair(windows(first), windows(second))
    assert pairs.mean == pytest.approx(mean, rel=1e-12)
    assert standard_error(pairs) == pytest.approx(error, rel=1e-12)
    # Student's t with two degrees of freedom has the distribution function 1/2 + t / (2 sqrt(2 + t^2)).
    t = mean / error
    assert p_value(pairs) == (pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9), "paired t")
    quantile = 0.95 * math.sqrt(2) / math.sqrt(1 - 0.95**2)
    low, high, made = interval(pairs)
    assert (low, high) == (
        pytest.approx(mean - quantile * error, rel=1e-9),
        pytest.approx(mean + quantile * error, rel=1e-9),
    )
    assert made == "t"


def test_windows_of_one_document_are_one_draw():
    d, documents = [0.1, 0.3, 0.2, -0.1], [7, 7, 2, 9]
    mean = sum(d) / 4
    deviations = [(0.1 - mean) + (0.3 - mean), 0.2 - mean, -0.1 - mean]
    error = math.sqrt(3 / 2 * sum(x * x for x in deviations)) / 4
    pairs = pair(windows(d, groups=documents, grouped="documents"), windows([0] * 4))
    assert standard_error(pairs) == pytest.approx(error, rel=1e-12)
    assert (pairs.draws, pairs.freedom, pairs.resampled) == (3, 2, "documents")


def test_means_of_tasks_are_weighted():
    parts = ["a"] * 4 + ["b"] * 2
    d = [1.0, 0.0, 0.0, 1.0, -1.0, 0.5]
    first, second = (
        Observations(values, "items", parts=parts, weights={"a": 0.75, "b": 0.25}) for values in (d, [0] * 6)
    )
    pairs = pair(first, second)
    variances = [4 * 0.25 / 3, 2 * 0.75**2]
    assert pairs.mean == pytest.approx(0.75 * 0.5 + 0.25 * -0.25, rel=1e-12)
    assert standard_error(pairs) == pytest.approx(
        math.sqrt(0.75**2 * variances[0] / 4 + 0.25**2 * variances[1] / 2), rel=1e-12
    )
    assert pairs.freedom == 4


@pytest.mark.parametrize(("better", "worse"), [(9, 2), (3, 3), (0, 5), (1, 0), (0, 0)])
def test_mcnemar_is_exact(better, worse):
    first = [1] * better + [0] * worse + [1, 0, 1]
    second = [0] * better + [1] * worse + [1, 0, 1]
    n, k = better + worse, min(better, worse)
    expected = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert p_value(pair(windows(first), windows(second))) == (pytest.approx(expected, rel=1e-9), "McNemar")


def test_the_signs_of_several_tasks_at_once():
    """Against every way in which seven pairs that differ can do so."""
    parts = ["a"] * 8 + ["b"] * 5
    first = [1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    second = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0]
    weights = {"a": 0.5, "b": 0.5}
    pairs = pair(
        Observations(first, "items", parts=parts, weights=weights),
        Observations(second, "items", parts=parts, weights=weights),
    )
    observed = 0.5 * 4 / 8 + 0.5 * 1 / 5
    sums = [0.5 * sum(s[:4]) / 8 + 0.5 * sum(s[4:]) / 5 for s in product((-1, 1), repeat=7)]
    exact = np.mean([abs(x) >= observed - 1e-12 for x in sums])
    assert pairs.mean == pytest.approx(observed, rel=1e-12)
    p, test = p_value(pairs)
    assert test == "signs" and p == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / 9999))


def test_the_signed_rank_test_of_many_windows():
    d = np.random.default_rng(3).normal(0.4, 1, FEW)
    rank = np.argsort(np.argsort(abs(d))) + 1
    smaller = min(rank[d > 0].sum(), rank[d < 0].sum())
    ways = [1]  # how many of the 2^n signs have a sum of positive ranks of i
    for r in range(1, FEW + 1):
        ways = [(ways[i] if i < len(ways) else 0) + (ways[i - r] if 0 <= i - r < len(ways) else 0)
                for i in range(len(ways) + r)]  # fmt: skip
    expected = 2 * sum(ways[: smaller + 1]) / 2**FEW
    p, test = p_value(pair(windows(d), windows([0] * FEW)))
    assert test == "signed-rank" and p == pytest.approx(expected, rel=1e-9)


def test_four_windows_cannot_be_ranked_below_one_in_eight():
    assert stats.wilcoxon([0.1, 0.2, 0.3, 0.4]).pvalue == 2 / 2**4


def test_the_bootstrap_draws_documents():
    """Against resamples of whole documents, drawn one by one."""
    random = np.random.default_rng(1)
    documents = np.repeat(np.arange(30), random.integers(1, 4, 30))
    d = random.normal(0, 1, len(documents)) + random.normal(0, 1, 30)[documents]
    pairs = pair(windows(d, groups=documents.tolist()), windows([0] * len(d)))
    means = []
    for _ in range(4000):
        drawn = np.concatenate([d[documents == g] for g in random.integers(0, 30, 30)])
        means.append(drawn.mean())
    quantile = stats.t.ppf(0.975, 29) * math.sqrt(30 / 29)
    tail = stats.norm.cdf(-quantile)
    low, high, made = interval(pairs)
    assert made == "bootstrap" and interval(pairs)[:2] == (low, high)
    error = np.std(means)
    assert low == pytest.approx(np.quantile(means, tail), abs=0.15 * error)
    assert high == pytest.approx(np.quantile(means, 1 - tail), abs=0.15 * error)
    assert standard_error(pairs) == pytest.approx(error, rel=0.05)


def test_pairs_are_found_by_their_keys():
    first = Observations([1.0, 2.0, 3.0], "items", keys=["a", "b", "c"])
    second = Observations([10.0, 20.0], "items", keys=["c", "a"])
    assert pair(first, second).differences.tolist() == [-19.0, -7.0]
    assert len(pair(windows([1, 2], source="x"), windows([1, 2], source="y")).differences) == 0
    assert pair(windows([1.0, 2.0]), windows([1.0])).differences.tolist() == [0.0]
    weights = {"a": 0.5, "b": 0.5}
    longer = Observations([1.0, 2.0, 3.0, 4.0], "items", parts=["a", "a", "a", "b"], weights=weights)
    shorter = Observations([10.0, 40.0], "items", parts=["a", "b"], weights=weights)
    assert pair(longer, shorter).differences.tolist() == [-9.0, -36.0]


def test_what_cannot_be_told():
    nothing = pair(windows([1], source="x"), windows([1], source="y"))
    assert math.isnan(nothing.mean) and math.isnan(p_value(nothing)[0])
    single = pair(windows([2.5]), windows([2.0]))
    assert single.mean == 0.5 and math.isnan(standard_error(single)) and math.isnan(p_value(single)[0])
    infinite = pair(windows([math.nan, 2.0]), windows([2.0, 2.0]))
    assert math.isnan(infinite.mean) and math.isnan(interval(infinite)[0])
    same = pair(windows([2.5, 3.5]), windows([2.5, 3.5]))
    assert p_value(same)[0] == 1.0 and interval(same)[:2] == (0.0, 0.0)
    assert p_value(pair(windows(range(30)), windows(range(30))))[0] == 1.0


def test_holms_correction():
    p = [0.01, 0.04, math.nan, 0.03, 0.005]
    # Sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1; none below the one before it.
    assert holm(p) == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


def equal_methods(random, kind, comparisons):
    """Pairs of results of methods that are equal by construction."""
    for _ in range(comparisons):
        if kind == "four windows":
            text = random.normal(MEAN, SPREAD, WINDOWS)
            yield tuple(windows(text + random.normal(0, NOISE, WINDOWS)) for _ in range(2))
        elif kind == "windows of 25 documents":
            documents = np.repeat(np.arange(25), random.integers(1, 4, 25))
            text = random.normal(MEAN, SPREAD, len(documents))
            yield tuple(
                windows(
                    text + random.normal(0, 0.01, len(text)) + random.normal(0, 0.02, 25)[documents],
                    groups=documents.tolist(),
                )
                for _ in range(2)
            )
        else:  # items, of which a fifth are hard to say
            easy = random.random(5000) < 0.6
            yield tuple(
                windows(np.where(random.random(5000) < 0.5, random.random(5000) < 0.6, easy))
                for _ in range(2)
            )


@pytest.mark.parametrize("kind", ["four windows", "windows of 25 documents", "5,000 items"])
def test_methods_that_are_equal_are_told_apart_as_seldom_as_said(kind):
    random = np.random.default_rng(7)
    studies = [
        [p_value(pair(*results))[0] for results in equal_methods(random, kind, 5)] for _ in range(STUDIES)
    ]
    assert 0.04 <= np.mean(np.array(studies) < 0.05) <= 0.06
    # Over the table: in how many studies Holm's correction leaves any; 0.05 and two of its standard errors.
    assert np.mean([min(holm(study)) < 0.05 for study in studies]) <= 0.072


@pytest.mark.parametrize(("alike", "told"), [(0.5, 0.015), (0.0, 0.027)])
def test_few_items_are_told_apart_more_seldom(alike, told):
    """24 items, of which two methods answer a part alike and the others by chance."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(4000):
        same = random.random(24) < alike
        first, second = random.random((2, 24)) < 0.5
        found.append(p_value(pair(windows(first), windows(np.where(same, first, second))))[0] < 0.05)
    assert np.mean(found) == pytest.approx(told, abs=0.005)


# As docs/decisions/paired-statistics.md says: threshold-0.3 and dense, act-0.5 and 16:32, 8:16 and dense.
@pytest.mark.parametrize(("noise", "power"), [(NOISE, 0.56), (0.038, 0.20), (0.088, 0.08)])
def test_three_percent_of_perplexity_are_found_on_four_windows(noise, power):
    random = np.random.default_rng(11)
    found = []
    for _ in range(5 * STUDIES):
        text = random.normal(MEAN, SPREAD, WINDOWS)
        worse = text + math.log(1.03) + random.normal(0, noise, WINDOWS)
        found.append(p_value(pair(windows(worse), windows(text)))[0] < 0.05)
    # Of Student's t with three degrees of freedom, moved by the difference over its standard error.
    moved = math.log(1.03) / (noise / math.sqrt(WINDOWS))
    beyond = stats.t.ppf(0.975, 3)
    exact = stats.nct.sf(beyond, 3, moved) + stats.nct.cdf(-beyond, 3, moved)
    assert exact == pytest.approx(power, abs=0.005)
    assert np.mean(found) == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / len(found)))


def test_intervals_hold_the_truth():
    """95 of 100 times, four windows and many documents alike."""
    random = np.random.default_rng(5)
    for kind, studies in (("four windows", 2000), ("windows of 25 documents", 500)):
        held = []
        for results in equal_methods(random, kind, studies):
            low, high, _ = interval(pair(*results))
            held.append(low <= 0 <= high)
        assert 0.93 <= np.mean(held) <= 0.97, kind


def test_other_ways_are_worse():
    """Windows ranked as if documents did not matter, and a plain bootstrap of four windows."""
    random = np.random.default_rng(9)
    pairs = [pair(*results) for results in equal_methods(random, "windows of 25 documents", 1000)]
    alike = [stats.wilcoxon(found.differences).pvalue < 0.05 for found in pairs]
    assert np.mean(alike) == pytest.approx(0.17, abs=0.03)
    held = []
    for _ in range(1000):
        means = random.choice(random.normal(0, 1, 4), (999, 4)).mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        held.append(low <= 0 <= high)
    assert np.mean(held) == pytest.approx(0.80, abs=0.03)

"""What a number of a result is the mean of, kept so that two results can be paired."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Observations:
    """The windows, items or other things whose values a number of one experiment is the mean of.

    values: one for each; NaN where it was not finite. Where two results have zeros and ones alone, the pairs
        that differ are counted.
    of: what they are, in the plural, as tables say it: "windows".
    keys: which ones; those of two results that have the same key are a pair. By their places in their
        part, if not given.
    groups: which of them are no independent draws, such as windows of one document; resampled together. Each
        is one by itself, if not given.
    grouped: what groups are, in the plural.
    parts, weights: where the number is a weighted sum of means, which mean each is of, and {part: weight}.
    source: digest of what they were measured on; results of two sources have no pairs.
    """

    values: Sequence[float]
    of: str
    keys: Sequence[Hashable] | None = None
    groups: Sequence[int] | None = None
    grouped: str | None = None
    parts: Sequence[Hashable] | None = None
    weights: Mapping[Hashable, float] | None = None
    source: str | None = None

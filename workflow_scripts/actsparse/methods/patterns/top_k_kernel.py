"""Unstructured pruning of rows on the CPU: a binary search for the bits of each row's threshold.

Keys are integers of the scores' order. From the highest bit down, a bit of the threshold is set when at
least k keys still reach it. A row is done as soon as exactly k keys do; only rows with ties at the threshold
need all bits, and then the earliest of the tied elements are taken.
"""

import numpy as np
from numba import njit
from torch import Tensor

from actsparse.methods.patterns import kernels


def prune_top_k(x: Tensor, scores: Tensor | None, k: int) -> tuple[Tensor, bool]:
    """Return `x` (..., d) with all but the `k` best elements of each row zeroed, and whether `x` is finite.

    `scores` are of x's shape; None stands for abs(x). The caller has asked `kernels.fits`.
    """
    width = x.shape[-1]
    return kernels.run(_kernel, x, scores, width, width, k, scores is None)


@njit(nogil=True, cache=True)
def _kernel(scores, values, result, infinity, width, k, absolute):
    magnitude_bits = 8 * values.itemsize - 1
    keys = np.empty(width, np.int32)
    broken = False
    for start in range(0, values.size, width):
        stop = start + width
        broken |= _fill(keys, scores[start:stop], values[start:stop], infinity, magnitude_bits, absolute)
        threshold, room = _threshold(keys, k, magnitude_bits)
        _select(keys, values[start:stop], result[start:stop], threshold, room)
    return broken


@njit(nogil=True, cache=True)
def _fill(keys, scores, values, infinity, magnitude_bits, absolute):
    """Write the keys of a row; tell whether one of its values is a NaN or an infinity."""
    magnitude = np.int32((1 << magnitude_bits) - 1)
    broken = False
    for i in range(keys.size):
        broken |= (np.int32(values[i]) & magnitude) >= infinity
        bits = np.int32(scores[i])
        size = bits & magnitude
        keys[i] = size if absolute or bits >= 0 else -size
    return broken


@njit(nogil=True, cache=True)
def _threshold(keys, k, magnitude_bits):
    """Return the threshold of the k best keys, and how many keys that are equal to it to keep."""
    low = np.int32(0)
    reached = _count(keys, low)
    if reached < k:
        low = np.int32(-(1 << magnitude_bits))
        reached = keys.size
    for bit in range(magnitude_bits - 1, -1, -1):
        if reached == k:
            return low, keys.size
        candidate = np.int32(low + (1 << bit))
        count = _count(keys, candidate)
        if count >= k:
            low, reached = candidate, count
    return low, k - _count(keys, np.int32(low + 1))


@njit(nogil=True, cache=True)
def _count(keys, threshold):
    count = np.int32(0)
    for i in range(keys.size):
        count += np.int32(keys[i] >= threshold)
    return count


@njit(nogil=True, cache=True)
def _select(keys, values, result, threshold, room):
    if room == keys.size:
        for i in range(keys.size):
            result[i] = values[i] if keys[i] >= threshold else 0
        return
    for i in range(keys.size):
        tied = keys[i] == threshold and room > 0
        room -= tied
        result[i] = values[i] if tied or keys[i] > threshold else 0

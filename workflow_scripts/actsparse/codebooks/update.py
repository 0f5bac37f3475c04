"""The centroids of given members: sums of packed patterns, and the most active neurons of each sum."""

import numpy as np
import torch
from torch import Tensor

from actsparse.codebooks.assign import as_words, kernels
from actsparse.codebooks.packing import pack, packed_width, unpack, unpack_planes

UNPACKED_BYTES = 2**26  # of a block's unpacked patterns in the plain paths


def no_sums(clusters: int, width: int, device: torch.device) -> Tensor:
    """Return zeros, int32 (clusters, width), to add to."""
    if device.type != "cpu":
        return torch.zeros(clusters, width, dtype=torch.int32, device=device)
    # torch.zeros would wake torch's threads, which then spin on the cores that the kernels are about to use.
    return torch.from_numpy(np.zeros((clusters, width), np.int32))


def add_to_sums(sums: Tensor, patterns: Tensor, index: Tensor) -> None:
    """Add each pattern to the sum of its cluster, in place: sums[index[i]] += patterns[i].

    Args:
        sums: int32 (K, D), contiguous.
        patterns: packed, uint8 (n, ceil(D / 8)), or weights as bit planes (n, bits, ceil(D / 8)), on the
            same device.
        index: int64 (n,), each below K.
    """
    if sums.device.type != "cpu" or not (compiled := kernels()):
        return add_to_sums_plain(sums, patterns, index)
    planes = as_words(patterns if patterns.ndim == 3 else patterns[:, None])
    rows, starts, order = planes.numpy(), np.zeros(len(sums) + 1, int), np.empty(len(index), int)
    compiled.group_members(index.numpy(), starts, order)

    def work(first: int, last: int) -> None:
        compiled.add_members(rows, order, starts, first, last, sums.numpy())

    entries = sums.shape[1] * planes.shape[1] * (1 + len(patterns) // (8 * len(sums)))
    compiled.in_threads(work, len(sums), max(1, compiled.THREAD_ENTRIES // entries))


def add_to_sums_plain(sums: Tensor, patterns: Tensor, index: Tensor) -> None:
    """Do what `add_to_sums` does by unpacking blocks of patterns."""
    rows = max(1, UNPACKED_BYTES // (4 * sums.shape[1]))
    for start in range(0, len(patterns), rows):
        block = slice(start, start + rows)
        read = unpack if patterns.ndim == 2 else unpack_planes
        sums.index_add_(0, index[block], read(patterns[block], sums.shape[1], torch.int32))


def top_entries(scores: Tensor, ones: int) -> Tensor:
    """Return the packed masks, uint8 (K, ceil(D / 8)), of the `ones` largest entries of each row.

    `scores` (K, D) are numbers of any kind, not negative if int32; ties go to the first position.
    """
    if scores.dtype != torch.int32 or scores.device.type != "cpu" or not (compiled := kernels()):
        return top_entries_plain(scores, ones)
    packed = np.zeros((len(scores), packed_width(scores.shape[1])), np.uint8)  # not torch's: see `no_sums`

    def work(first: int, last: int) -> None:
        compiled.top_entries(scores.numpy(), ones, first, last, packed)

    compiled.in_threads(work, len(scores), max(1, compiled.THREAD_ENTRIES // scores.shape[1]))
    return torch.from_numpy(packed)


def top_entries_plain(scores: Tensor, ones: int) -> Tensor:
    """Do what `top_entries` does by a stable sort."""
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :ones]
    return pack(torch.zeros_like(scores, dtype=torch.bool).scatter_(1, best, True))

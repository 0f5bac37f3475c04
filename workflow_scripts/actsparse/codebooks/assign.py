"""The nearest centroid of each activation pattern, on packed bits.

`assign` gives what `assign_plain`, the definition, gives; on a CPU with numba the overlaps are popcounts of
64-bit words that never leave the registers. Patterns may carry weights: small integers, as bit planes, so
that the same popcounts serve, and sums are exact in any order.
"""

from functools import cache
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import pad

from actsparse.codebooks.packing import packed_width, unpack, unpack_planes

OVERLAP_BYTES = 2**26  # of a block's float32 overlaps, or of its unpacked patterns, in the plain path
EXACT_SUMS = 2**24 - 1  # integers up to here, and sums of them in any order, are exact in float32


def assign(patterns: Tensor, centroids: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Assign each pattern to the centroid that shares most active neurons, the first among equals.

    Args:
        patterns: packed, uint8 (n, ceil(width / 8)), or weighted, as bit planes (n, bits, ceil(width / 8)):
            then the centroid is wanted whose neurons have the largest weight. At most 11 bits, and weights
            whose sum is below 2**24.
        centroids: packed, uint8 (K, ceil(width / 8)), on the same device.
        width: neurons in a pattern, below 2**24.

    Returns:
        The centroids' indices, int64 (n,), and the numbers of shared active neurons (or their weights),
        int64 (n,).

    Raises:
        ValueError: when there is no centroid, or the bytes do not fit `width`.
    """
    if not len(centroids):
        raise ValueError("assign: no centroids")
    if not patterns.shape[-1] == centroids.shape[1] == packed_width(width):
        raise ValueError(
            f"assign: {patterns.shape[-1]} and {centroids.shape[1]} bytes a row do not fit {width} neurons"
        )
    if patterns.device.type == "cpu" and len(patterns) and (compiled := kernels()):
        return _assign_popcount(compiled, patterns, centroids)
    return assign_plain(patterns, centroids, width)


def assign_plain(patterns: Tensor, centroids: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Do what `assign` does by one matrix product and one argmax per block of patterns."""
    return assign_dense(patterns, unpack(centroids, width), width)


def assign_dense(patterns: Tensor, centroids: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Do what `assign` does for centroids (K, width) of small numbers, by the largest product.

    The numbers are integers from 0 to 2048, and no product may be larger than EXACT_SUMS.
    """
    # Such integers are exact in float16, and their sums in float32.
    gpu = patterns.device.type == "cuda"
    dtype, exact_sums = (torch.float16, {"out_dtype": torch.float32}) if gpu else (torch.float32, {})
    transposed = centroids.to(dtype).T
    index = torch.empty(len(patterns), dtype=torch.int64, device=patterns.device)
    overlap = torch.empty_like(index)
    rows = max(1, OVERLAP_BYTES // (4 * max(centroids.shape)))
    for start in range(0, len(patterns), rows):
        block = slice(start, start + rows)
        read = unpack if patterns.ndim == 2 else unpack_planes
        best = torch.mm(read(patterns[block], width, dtype), transposed, **exact_sums).max(1)
        overlap[block], index[block] = best.values.long(), best.indices
    return index, overlap


def _assign_popcount(compiled: ModuleType, patterns: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    count = len(patterns)
    rows = as_words(patterns if patterns.ndim == 3 else patterns[:, None], max(0, compiled.ROWS - count))
    lanes = as_words(centroids, -len(centroids) % compiled.LANES)
    grouped = lanes.view(-1, compiled.LANES, lanes.shape[1]).transpose(1, 2).contiguous()
    index = torch.empty(len(rows), dtype=torch.int64)
    overlap = torch.empty_like(index)
    arrays = rows.numpy(), index.numpy(), overlap.numpy()

    def work(start: int, stop: int) -> None:
        some_rows, some_index, some_overlap = (array[start:stop] for array in arrays)
        compiled.nearest(some_rows, grouped.numpy(), some_index, some_overlap)

    worthwhile = max(compiled.ROWS, compiled.THREAD_WORDS // (lanes.numel() * rows.shape[1]))
    compiled.in_threads(work, len(rows), worthwhile)
    return index[:count], overlap[:count]


def centroid_masks(index: Tensor, centroids: Tensor, width: int) -> Tensor:
    """Return the masks, bool (n, width), of the centroids (K, B) that `index` (n,) names."""
    return unpack(centroids.index_select(0, index), width)


@cache
def kernels() -> ModuleType | None:
    """Return the compiled kernels, or None where numba cannot be imported."""
    try:
        from actsparse.codebooks import kernels
    except ImportError:
        return None
    return kernels


def as_words(packed: Tensor, extra_rows: int = 0) -> Tensor:
    """View packed rows uint8 (n, ..., B) as int64 (n + extra_rows, ..., ceil(B / 8)); copies only to pad."""
    extra_bytes = -packed.shape[-1] % 8
    missing = (0, extra_bytes, *(0, 0) * (packed.ndim - 2), 0, extra_rows)
    whole = pad(packed, missing) if extra_bytes or extra_rows else packed
    return whole.contiguous().view(torch.int64)

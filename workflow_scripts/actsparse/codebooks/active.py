"""What is done with activations as they pass: which neurons are active, and what some of them sum up to.

On a CPU with numba one pass over the activations each, without copies of them.
"""

from types import ModuleType

import torch
from torch import Tensor

from actsparse.codebooks.assign import as_words, kernels
from actsparse.codebooks.packing import pack, packed_width, unpack


def active_patterns(scores: Tensor, threshold: float) -> Tensor:
    """Return the packed patterns, uint8 (n, ceil(D / 8)), of the neurons whose score reaches the threshold.

    `scores` are floating-point (n, D); they are compared in float32.
    """
    if not (compiled := _kernels_for(scores)):
        return pack(scores.float() >= threshold)
    rows = scores.contiguous()
    words = torch.empty(len(rows), -(-rows.shape[1] // 64), dtype=torch.int64)

    def work(start: int, stop: int) -> None:
        compiled.find_active(rows.numpy()[start:stop], threshold, words.numpy()[start:stop])

    compiled.in_threads(work, len(rows), max(1, compiled.THREAD_ENTRIES // rows.shape[1]))
    return words.view(torch.uint8)[:, : packed_width(rows.shape[1])]


def sum_of(scores: Tensor, packed: Tensor) -> Tensor:
    """Return the sum, float64 (), of the scores, floating-point (n, D), that packed masks (n, B) select."""
    if not (compiled := _kernels_for(scores)):
        return torch.where(unpack(packed, scores.shape[1]), scores, 0).sum(dtype=torch.float32).double()
    rows, words = scores.contiguous(), as_words(packed)
    sums = torch.empty(len(rows), dtype=torch.float64)

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        compiled.add_where(rows.numpy()[part], words.numpy()[part], sums.numpy()[part])

    compiled.in_threads(work, len(rows), max(1, compiled.THREAD_ENTRIES // rows.shape[1]))
    return sums.sum()


def _kernels_for(scores: Tensor) -> ModuleType | None:
    fits = scores.device.type == "cpu" and scores.dtype == torch.float32 and not scores.requires_grad
    return kernels() if fits and len(scores) else None

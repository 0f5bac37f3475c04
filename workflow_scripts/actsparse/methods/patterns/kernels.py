"""How the CPU kernels of patterns are run: on bits, by several threads, with a report of NaN or infinity."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils._triton import has_triton

# Elements below which a second thread costs more than it saves.
ELEMENTS_PER_THREAD = 1 << 16


def fits(x: Tensor, scores: Tensor | None) -> bool:
    """Tell whether a kernel can prune `x` by `scores`: on the CPU, 16 or 32 bits, without gradients.

    Scores are of x's dtype or float32.
    """
    return x.device.type == "cpu" and _simple(x, scores)


def fits_gpu(x: Tensor, scores: Tensor | None) -> bool:
    """Tell the same of a GPU; Triton, which torch brings along there, compiles the kernel."""
    return x.is_cuda and _simple(x, scores) and has_triton()


def _simple(x: Tensor, scores: Tensor | None) -> bool:
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    if x.dtype not in dtypes or x.requires_grad:
        return False
    return scores is None or (
        scores.dtype in (x.dtype, torch.float32) and scores.shape == x.shape and not scores.requires_grad
    )


def run(kernel: Callable[..., bool], x: Tensor, scores: Tensor | None, unit: int, *arguments) -> tuple:
    """Prune `x` by `scores` (None: its magnitudes) with kernel(scores, x, result, infinity, *arguments).

    The kernel gets the bits of its part of the tensors as integer arrays, a multiple of `unit` elements, and
    the bits of infinity; it fills `result` and returns whether it met a NaN or an infinity in `x`. Returns
    the pruned tensor and whether all of `x` is finite.
    """
    if scores is not None and scores.dtype != x.dtype:
        # Every 16-bit number is a float32, so that widening and narrowing again changes no bit.
        result, finite = run(kernel, x.float(), scores, unit, *arguments)
        return result.to(x.dtype), finite
    integer = {4: torch.int32, 2: torch.int16}[x.element_size()]
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    arrays = [
        tensor.contiguous().view(integer).reshape(-1).numpy()
        for tensor in (x if scores is None else scores, x, result)
    ]
    infinity = torch.tensor(torch.inf, dtype=x.dtype).view(integer).numpy()[()]
    units = x.numel() // unit
    threads = max(1, min(torch.get_num_threads(), x.numel() // ELEMENTS_PER_THREAD))
    bounds = [units * part // threads * unit for part in range(threads + 1)]

    def work(start: int, stop: int) -> bool:
        return kernel(*(array[start:stop] for array in arrays), infinity, *arguments)

    parts = list(pairwise(bounds))
    if threads == 1:
        return result, not work(*parts[0])
    futures = [_pool(threads).submit(work, *part) for part in parts]
    return result, not any([future.result() for future in futures])


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="prune")

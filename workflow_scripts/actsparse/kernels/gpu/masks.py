"""N:M pruning on a GPU: one pass that ranks inside each group, prunes, and looks for what is not finite."""

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 2048  # of one program


@triton.jit
def sortable(score, later, SIZE: tl.constexpr):
    """Return integers that all differ and order `score`, and among equal ones the smaller `later`.

    `later` is 0 to SIZE - 1. Of 16 bits: int32, of float32: int64. -0.0 equals 0.0; of NaNs nothing is said.
    """
    if score.dtype == tl.float32:
        bits = score.to(tl.int32, bitcast=True)
        bits = tl.where(bits < 0, -(bits & 0x7FFFFFFF), bits).to(tl.int64)
    else:
        bits = score.to(tl.int16, bitcast=True).to(tl.int32)
        bits = tl.where(bits < 0, -(bits & 0x7FFF), bits)
    return bits * SIZE + (SIZE - 1 - later)


@triton.jit
def _prune(x, scores, result, broken, groups, N: tl.constexpr, M: tl.constexpr, PADDED: tl.constexpr,
           ROWS: tl.constexpr, OWN: tl.constexpr):  # fmt: skip
    group = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    position = tl.arange(0, PADDED)
    offsets = group[:, None] * M + position[None, :]
    inside = (group < groups)[:, None] & (position < M)[None, :]
    value = tl.load(x + offsets, mask=inside, other=0.0)
    score = tl.abs(value) if OWN else tl.load(scores + offsets, mask=inside, other=0.0)
    keys = sortable(score, position[None, :], PADDED)
    lowest = tl.full(keys.shape, -(1 << 30) if keys.dtype == tl.int32 else -(1 << 60), keys.dtype)
    keys = tl.where(inside, keys, lowest)
    # The keys of a group differ, so that exactly N of them reach the N-th.
    ordered = tl.sort(keys, dim=1, descending=True)
    last = tl.sum(tl.where(position[None, :] == N - 1, ordered, 0), 1)
    tl.store(result + offsets, tl.where(keys >= last[:, None], value, 0.0), mask=inside)
    finite = tl.abs(value).to(tl.float32) < float("inf")  # and no NaN, which is less than nothing
    if tl.min(finite.to(tl.int32)) == 0:
        tl.store(broken, 1)


def prune_n_of_m(x: Tensor, scores: Tensor | None, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Return `x` (..., d) with all but the `n` best of each `m` elements zeroed, and whether `x` is finite.

    `x` and `scores` are float32, bfloat16 or float16, `scores` of x's shape; None stands for abs(x). Ties go
    to the earlier one. The flag, bool, stays on the device.
    """
    x = x.contiguous()
    result, broken = torch.empty_like(x), torch.zeros((), dtype=torch.int32, device=x.device)
    groups, padded = x.numel() // m, triton.next_power_of_2(m)
    rows = max(1, ELEMENTS // padded)
    _prune[(triton.cdiv(groups, rows),)](
        x, x if scores is None else scores.contiguous(), result, broken, groups, N=n, M=m, PADDED=padded,
        ROWS=rows, OWN=scores is None, num_warps=4,
    )  # fmt: skip
    return result, broken == 0

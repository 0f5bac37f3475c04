"""Which inputs of a product are kept, as a list without gaps, and their values.

Within a group all inputs are compared with each other, and the rank is the place in the list. The best of a
whole row need a bound, which one program finds; then, as for a level, every program counts anew what those
before it keep, so that lists are in order and do not depend on who came first.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from actsparse.kernels.gpu.launches import early, gdc_launch_dependents, gdc_wait
from actsparse.kernels.gpu.masks import prune_n_of_m, sortable
from actsparse.kernels.modes import N_OF_M, NONZERO, TOP_K

LARGEST_GROUP = 64  # whose elements are compared with each other
# Lower bits of a number's float32 form that are always zero.
ZERO_BITS = {torch.float32: 0, torch.bfloat16: 16, torch.float16: 13}


@triton.jit
def _list_groups(x, factor, index, value, count, d, N: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr,
                 WEIGHTED: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """List the N best of each M inputs of one row, the best first."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < d, other=0.0)
    score = tl.abs(v)
    if WEIGHTED:
        score = score.to(tl.float32) * tl.load(factor + i, mask=i < d, other=0.0)
    groups = tl.reshape(sortable(score, i % M, M), (BLOCK // M, M))
    above = groups[:, None, :] > groups[:, :, None]
    rank = tl.reshape(tl.sum(above.to(tl.int32), 2), (BLOCK,))
    kept = (rank < N) & (i < d)
    place = i // M * N + rank
    tl.store(index + place, i, mask=kept)
    tl.store(value + place, v.to(tl.float32), mask=kept)
    if tl.program_id(0) == 0:
        tl.store(count, d // M * N)


@triton.jit
def _score(x, factor, i, d, WEIGHTED: tl.constexpr):
    """Return inputs `i` of a row and their scores in float32."""
    v = tl.load(x + i, mask=i < d, other=0.0)
    score = tl.abs(v).to(tl.float32)
    if WEIGHTED:
        score = score * tl.load(factor + i, mask=i < d, other=0.0)
    return v.to(tl.float32), score


@triton.jit
def _find_bound(x, factor, least, last, d, wanted, BLOCK: tl.constexpr, WEIGHTED: tl.constexpr,
                PAIRS: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """Find the `wanted`-th largest score of a row, and the last of its equals to be kept."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    row, i = tl.program_id(0), tl.arange(0, BLOCK)
    _, score = _score(x + row * d, factor, i, d, WEIGHTED)
    # Floats that are not negative are ordered as their bits are: the largest bound that so many reach is
    # found two bits at a time, three counts in one sum.
    bits = tl.where(i < d, score.to(tl.int32, bitcast=True), -1)
    bound = tl.where(tl.sum((bits >= 1 << 30).to(tl.int32)) >= wanted, 1 << 30, 0)
    for step in range(PAIRS):
        one = (1 << 28) >> (2 * step)
        first = (bits >= bound + one).to(tl.int64)
        second = (bits >= bound + 2 * one).to(tl.int64)
        third = (bits >= bound + 3 * one).to(tl.int64)
        counts = tl.sum(first + (second << 20) + (third << 40))
        reached = ((counts & 0xFFFFF) >= wanted).to(tl.int32)
        reached += (((counts >> 20) & 0xFFFFF) >= wanted).to(tl.int32)
        reached += ((counts >> 40) >= wanted).to(tl.int32)
        bound += reached * one
    equal = bits == bound
    room = wanted - tl.sum((bits > bound).to(tl.int32))
    kept = equal & (tl.cumsum(equal.to(tl.int32), 0) <= room)
    tl.store(least + row, bound.to(tl.float32, bitcast=True))
    tl.store(last + row, tl.max(tl.where(kept, i, -1)))


@triton.jit
def _kept(x, factor, least, last, i, d, level, MODE: tl.constexpr, WEIGHTED: tl.constexpr):
    """Return inputs `i` of a row in float32, 0 where they are not kept, and which are."""
    v, score = _score(x, factor, i, d, WEIGHTED)
    if MODE == 0:  # what is not zero
        kept = v != 0
    elif MODE == 1:  # what reaches a level
        kept = (score >= level) & (i < d)
    else:  # the best of all
        bound = tl.load(least)
        kept = ((score > bound) | ((score == bound) & (i <= tl.load(last)))) & (i < d)
    return tl.where(kept, v, 0.0), kept


@triton.jit
def _kept_by_any(x, factor, least, last, i, d, level, BATCH: tl.constexpr, MODE: tl.constexpr,
                 WEIGHTED: tl.constexpr):  # fmt: skip
    _, kept = _kept(x, factor, least, last, i, d, level, MODE, WEIGHTED)
    for row in tl.static_range(1, BATCH):
        _, more = _kept(x + row * d, factor, least + row, last + row, i, d, level, MODE, WEIGHTED)
        kept = kept | more
    return kept


@triton.jit
def _list_rows(x, factor, least, last, index, value, count, d, level, BATCH: tl.constexpr, MODE: tl.constexpr,
               BLOCK: tl.constexpr, WEIGHTED: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    """List the inputs that any row keeps, in order; a program counts anew what those before it have kept."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    i = tl.arange(0, BLOCK)
    before = tl.full((), 0, tl.int32)
    for start in range(0, tl.program_id(0) * BLOCK, BLOCK):
        earlier = _kept_by_any(x, factor, least, last, start + i, d, level, BATCH, MODE, WEIGHTED)
        before += tl.sum(earlier.to(tl.int32))
    i += tl.program_id(0) * BLOCK
    kept = _kept_by_any(x, factor, least, last, i, d, level, BATCH, MODE, WEIGHTED)
    place = before + tl.cumsum(kept.to(tl.int32), 0) - 1
    tl.store(index + place, i, mask=kept)
    for row in tl.static_range(BATCH):
        v, _ = _kept(x + row * d, factor, least + row, last + row, i, d, level, MODE, WEIGHTED)
        tl.store(value + row * d + place, v, mask=kept)
    if tl.program_id(0) == tl.num_programs(0) - 1:
        tl.store(count, before + tl.sum(kept.to(tl.int32)))


def list_kept(
    rows: Tensor, mode: int, n: int, m: int, level: float, factor: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inputs that any row keeps, int32 (in), their values, float32 (rows, in), and their number.

    rows: (rows, in), contiguous; the selection as `Selection` has it; the number: int32 (1), on the device. A
    value is 0 in rows that do not keep it; what lies behind the last one is not written.
    """
    batch, d = rows.shape
    index = torch.empty(d, dtype=torch.int32, device=rows.device)
    value = torch.empty((batch, d), dtype=torch.float32, device=rows.device)
    count = torch.empty(1, dtype=torch.int32, device=rows.device)
    factors = rows if factor is None else factor
    shared = {"WEIGHTED": factor is not None, **early(rows.device)}
    if mode == N_OF_M and batch == 1 and m & (m - 1) == 0 and m <= LARGEST_GROUP:
        block = max(128, m)
        _list_groups[(triton.cdiv(d, block),)](
            rows, factors, index, value, count, d, N=n, M=m, BLOCK=block, **shared, num_warps=4
        )
        return index, value, count
    if mode == N_OF_M:
        scores = None if factor is None else rows.float().abs() * factor
        rows, mode = prune_n_of_m(rows, scores, n, m)[0], NONZERO
        factors, shared["WEIGHTED"] = rows, False
    least = torch.empty(batch, dtype=torch.float32, device=rows.device)
    last = torch.empty(batch, dtype=torch.int32, device=rows.device)
    if mode == TOP_K:
        zero_bits = ZERO_BITS[rows.dtype] if factor is None else 0
        _find_bound[(batch,)](
            rows, factors, least, last, d, n, BLOCK=triton.next_power_of_2(d), PAIRS=(31 - zero_bits) // 2,
            **shared, num_warps=32 if d > 4096 else 16,
        )  # fmt: skip
    _list_rows[(triton.cdiv(d, 1024),)](
        rows, factors, least, last, index, value, count, d, level, BATCH=batch, MODE=mode, BLOCK=1024,
        **shared, num_warps=4,
    )  # fmt: skip
    return index, value, count

"""Products of few rows on a GPU whose weights are read only where they count.

First the inputs that are kept are listed, close together, so that every load of the product that follows is
of use. Inputs are split over programs; the last one to arrive at a block of outputs adds up what the others
left, always in the same order: no second pass is needed, and results do not depend on who came first.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from actsparse.kernels.gpu.launches import early, gdc_launch_dependents, gdc_wait
from actsparse.kernels.gpu.lists import list_kept

LEAST_ROWS = 16  # that tensor cores take; a product of several rows is filled up
WANTED_PROGRAMS = 384  # enough to keep a large card's memory busy


@triton.jit
def _multiply(index, value, count, w, scale, bias, y, partial, arrived, counts, d, outs, row_bytes,
              splits, BATCH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
              SCALED: tl.constexpr, BIASED: tl.constexpr,
              PRECISION: tl.constexpr, PDL: tl.constexpr):  # fmt: skip
    part, split = tl.program_id(0), tl.program_id(1)
    o = part * BLOCK + tl.arange(0, BLOCK)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    kept = tl.load(count)
    per = tl.cdiv(tl.cdiv(kept, splits), CHUNK) * CHUNK
    rows: tl.constexpr = 1 if BATCH == 1 else ROWS
    row = tl.arange(0, rows)[:, None]
    # Of one row, sums of every CHUNK-th input are kept apart until the end.
    total = tl.zeros((CHUNK if BATCH == 1 else rows, BLOCK), tl.float32)
    for start in range(split * per, tl.minimum(kept, (split + 1) * per), CHUNK):
        j = start + tl.arange(0, CHUNK)
        there = j < kept
        i = tl.load(index + j, mask=there, other=0).to(tl.int64)
        weights = tl.load(
            w + i[:, None] * outs + o[None, :], mask=there[:, None] & (o < outs)[None, :], other=0.0
        ).to(tl.float32)
        if BATCH == 1:
            total += tl.load(value + j, mask=there, other=0.0)[:, None] * weights
        else:
            v = tl.load(value + row * d + j[None, :], mask=(row < BATCH) & there[None, :], other=0.0)
            total = tl.dot(v, weights, total, input_precision=PRECISION)
    if BATCH == 1:
        total = tl.sum(total, 0)[None, :]
    if part + split == 0:
        tl.atomic_add(counts, kept.to(tl.int64) * row_bytes)
        tl.atomic_add(counts + 1, d.to(tl.int64) * row_bytes)
    inside = (row < BATCH) & (o < outs)[None, :]
    spot = row * outs + o[None, :]
    if splits > 1:
        tl.store(partial + split * BATCH * outs + spot, total, mask=inside)
        tl.debug_barrier()  # all threads have stored before one of them says so
        before = tl.atomic_add(arrived + part, 1, sem="acq_rel")
        if before == splits - 1:
            total = tl.zeros((rows, BLOCK), tl.float32)
            for s in range(splits):
                total += tl.load(
                    partial + s * BATCH * outs + spot, mask=inside, other=0.0, cache_modifier=".cg"
                )
            _finish(total, scale, bias, y, o, outs, spot, inside, SCALED, BIASED)
            tl.store(arrived + part, 0)  # for the next product
    else:
        _finish(total, scale, bias, y, o, outs, spot, inside, SCALED, BIASED)


@triton.jit
def _finish(total, scale, bias, y, o, outs, spot, inside, SCALED: tl.constexpr, BIASED: tl.constexpr):
    if SCALED:
        total = total * tl.load(scale + o, mask=o < outs, other=0.0)[None, :]
    if BIASED:
        total = total + tl.load(bias + o, mask=o < outs, other=0.0).to(tl.float32)[None, :]
    tl.store(y + spot, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _skip_outputs(x, w, scale, bias, keep, y, counts, d, outs, row_bytes, BATCH: tl.constexpr,
                  BLOCK_IN: tl.constexpr, BLOCK_OUT: tl.constexpr, CHUNK: tl.constexpr,
                  SCALED: tl.constexpr, BIASED: tl.constexpr):  # fmt: skip
    part, turn = tl.program_id(0), tl.program_id(1)
    o = part * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    wanted = tl.load(keep + o, mask=o < outs, other=0) != 0
    for i in tl.static_range(1, BATCH):
        wanted = wanted | (tl.load(keep + i * outs + o, mask=o < outs, other=0) != 0)
    place = tl.cumsum(wanted.to(tl.int32), 0) - 1
    count = tl.sum(wanted.to(tl.int32))
    j = turn * CHUNK + tl.arange(0, CHUNK)
    if turn == 0:
        tl.atomic_add(counts, count.to(tl.int64) * row_bytes)
        tl.atomic_add(counts + 1, tl.sum((o < outs).to(tl.int64)) * row_bytes)
    if turn * CHUNK < count:
        chosen = wanted[:, None] & (place[:, None] == j[None, :])
        index = tl.sum(tl.where(chosen, o[:, None], 0), 0)
        there = j < count
        rows = w + index[:, None].to(tl.int64) * d
        for i in tl.static_range(BATCH):  # the first reads the weights from memory, the others from the cache
            total = tl.zeros((CHUNK, BLOCK_IN), tl.float32)
            for start in range(0, d, BLOCK_IN):
                inputs = start + tl.arange(0, BLOCK_IN)
                value = tl.load(x + i * d + inputs, mask=inputs < d, other=0.0).to(tl.float32)
                weights = tl.load(
                    rows + inputs[None, :], mask=there[:, None] & (inputs < d)[None, :], other=0.0
                )
                total += weights.to(tl.float32) * value[None, :]
            found = tl.sum(total, 1)
            if SCALED:
                found = found * tl.load(scale + index, mask=there, other=0.0)
            if BIASED:
                found = found + tl.load(bias + index, mask=there, other=0.0).to(tl.float32)
            mine = there & (tl.load(keep + i * outs + index, mask=there, other=0) != 0)
            tl.store(y + i * outs + index, found.to(y.dtype.element_ty), mask=mine)


def skip_inputs(
    x: Tensor,
    values: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    mode: int,
    n: int,
    m: int,
    level: float,
    factor: Tensor | None,
    counts: Tensor,
    sizes: tuple[int, int, int, int] | None = None,
) -> Tensor:
    """Return the product of the selected inputs of each row with their weights, (..., out).

    x: (..., in), few rows, of float32, bfloat16 or float16; values: (in, out), of x's dtype or int8 with
    `scale`, float32 (out); the selection as `Selection` has it. `counts`, int64 (2), on the device, gains the
    bytes of weights that were read, and of all. `sizes` overrules those of a program (`_sizes`).
    """
    d, outs = values.shape
    rows = x.reshape(-1, d).contiguous()
    batch = rows.shape[0]
    index, value, count = list_kept(rows, mode, n, m, level, factor)
    block, chunk, splits, warps = sizes or _sizes(outs, values.element_size())
    y = torch.empty((batch, outs), dtype=x.dtype, device=x.device)
    parts = triton.cdiv(outs, block)
    partial, arrived = _scratch(splits * batch * outs, parts, x.device)
    _multiply[(parts, splits)](
        index, value, count, values, rows if scale is None else scale, rows if bias is None else bias, y,
        partial, arrived, counts, d, outs, outs * values.element_size(), splits, BATCH=batch,
        ROWS=max(LEAST_ROWS, triton.next_power_of_2(batch)), BLOCK=block, CHUNK=chunk,
        SCALED=scale is not None, BIASED=bias is not None,
        # Numbers of 16 bits, and of 8, are tf32 numbers.
        PRECISION="ieee" if x.dtype == torch.float32 else "tf32", num_warps=warps, **early(x.device),
    )  # fmt: skip
    return y.reshape(*x.shape[:-1], outs)


def skip_outputs(
    x: Tensor, values: Tensor, scale: Tensor | None, bias: Tensor | None, keep: Tensor, counts: Tensor
) -> Tensor:
    """Return x W^T + b where `keep`, bool (..., out), else 0; values (out, in). The rest is skip_inputs'."""
    outs, d = values.shape
    rows, kept = x.reshape(-1, d).contiguous(), keep.reshape(-1, outs).contiguous().view(torch.uint8)
    y = torch.zeros((rows.shape[0], outs), dtype=x.dtype, device=x.device)
    block_out, chunk = 64, 8
    _skip_outputs[(triton.cdiv(outs, block_out), block_out // chunk)](
        rows, values, rows if scale is None else scale, rows if bias is None else bias, kept, y, counts, d,
        outs, d * values.element_size(), BATCH=rows.shape[0], BLOCK_IN=min(512, triton.next_power_of_2(d)),
        BLOCK_OUT=block_out, CHUNK=chunk, SCALED=scale is not None, BIASED=bias is not None, num_warps=4,
    )  # fmt: skip
    return y.reshape(keep.shape)


def _sizes(outs: int, size: int) -> tuple[int, int, int, int]:
    """Return outputs of a program, inputs at a time, splits of the inputs, and warps; as measured best."""
    block = min(1024 // size, max(16, triton.next_power_of_2(outs)))
    parts = triton.cdiv(outs, block)
    return block, 16 if parts > 16 else 32, max(1, min(32, WANTED_PROGRAMS // parts)), 4


@cache
def _scratch(size: int, parts: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return room for sums, float32 (size), and counters at zero, int32 (parts); kept, for graphs use it."""
    return torch.empty(size, device=device), torch.zeros(parts, dtype=torch.int32, device=device)

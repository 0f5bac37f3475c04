"""What stands between the products of a Llama's layer for one token, each in one launch.

The definitions are those of kernels/cpu/steps.cpp, rounding included.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _add_norm(hidden, delta, weight, y, d, epsilon, ADDS: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at, inside = tl.program_id(0) * d + i, i < d
    h = tl.load(hidden + at, mask=inside, other=0.0)
    if ADDS:
        more = tl.load(delta + at, mask=inside, other=0.0)
        h = (h.to(tl.float32) + more.to(tl.float32)).to(h.dtype)
        tl.store(hidden + at, h, mask=inside)
    x = h.to(tl.float32)
    x = x * (1 / tl.sqrt(tl.sum(x * x, 0) / d + epsilon))
    w = tl.load(weight + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, (w * x.to(h.dtype).to(tl.float32)).to(h.dtype), mask=inside)


@triton.jit
def _gated(both, y, width, BLOCK: tl.constexpr):
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row, inside = tl.program_id(0), i < width
    gate = tl.load(both + 2 * row * width + i, mask=inside, other=0.0)
    up = tl.load(both + (2 * row + 1) * width + i, mask=inside, other=0.0)
    g = gate.to(tl.float32)
    g = (g / (1 + tl.exp(-g))).to(gate.dtype).to(tl.float32)
    tl.store(y + row * width + i, (g * up.to(tl.float32)).to(gate.dtype), mask=inside)


@triton.jit
def _rotated(x, cos, sin, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    half: tl.constexpr = SIZE // 2
    other = tl.load(x + (i + half) % SIZE).to(tl.float32) * tl.where(i < half, -1.0, 1.0)
    return tl.load(x + i).to(tl.float32) * tl.load(cos + i) + other * tl.load(sin + i)


@triton.jit
def _attend(projected, cos, sin, keys, values, position, y, length, scale, HEADS: tl.constexpr,
            GROUPS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    head, b = tl.program_id(0), tl.program_id(1)
    shared: tl.constexpr = HEADS // GROUPS
    group = head // shared
    at = tl.load(position)
    token = projected + b * (HEADS + 2 * GROUPS) * SIZE
    i = tl.arange(0, SIZE)
    query = _rotated(token + head * SIZE, cos + at * SIZE, sin + at * SIZE, SIZE)
    key = _rotated(token + (HEADS + group) * SIZE, cos + at * SIZE, sin + at * SIZE, SIZE)
    key = key.to(keys.dtype.element_ty)
    value = tl.load(token + (HEADS + GROUPS + group) * SIZE + i)
    past = (b * GROUPS + group).to(tl.int64) * length * SIZE
    # The token's own row is taken from here, not from the cache that one of the group's heads writes it to.
    if head % shared == 0:
        tl.store(keys + past + at * SIZE + i, key)
        tl.store(values + past + at * SIZE + i, value)
    largest = tl.sum(query * key.to(tl.float32)) * scale
    total = tl.full((), 1.0, tl.float32)
    found = value.to(tl.float32)
    for start in range(0, at, BLOCK):
        t = start + tl.arange(0, BLOCK)
        cells = past + t[:, None] * SIZE + i[None, :]
        there = t < at
        k = tl.load(keys + cells, mask=there[:, None], other=0.0).to(tl.float32)
        v = tl.load(values + cells, mask=there[:, None], other=0.0).to(tl.float32)
        score = tl.where(there, tl.sum(k * query[None, :], 1) * scale, float("-inf"))
        higher = tl.maximum(largest, tl.max(score, 0))
        weight, fade = tl.exp(score - higher), tl.exp(largest - higher)
        total = total * fade + tl.sum(weight, 0)
        found = found * fade + tl.sum(weight[:, None] * v, 0)
        largest = higher
    tl.store(y + (b * HEADS + head) * SIZE + i, (found / total).to(y.dtype.element_ty))


def add_norm(hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """Add `delta` to `hidden` (..., d) in place; return weight * hidden / rms(hidden)."""
    y, d = torch.empty_like(hidden), hidden.shape[-1]
    block = triton.next_power_of_2(d)
    _add_norm[(hidden.numel() // d,)](
        hidden, hidden if delta is None else delta, weight, y, d, epsilon, ADDS=delta is not None,
        BLOCK=block, num_warps=max(1, min(16, block // 256)),
    )  # fmt: skip
    return y


def gated(both: Tensor) -> Tensor:
    """Return silu(gate) * up, (..., D), of gate and up side by side, (..., 2 D)."""
    width = both.shape[-1] // 2
    y = both.new_empty((*both.shape[:-1], width))
    _gated[(both.numel() // (2 * width), triton.cdiv(width, 1024))](both, y, width, BLOCK=1024, num_warps=4)
    return y


def attend(projected: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, position: Tensor,
           scale: float) -> Tensor:  # fmt: skip
    """Return the attention of one token of each sequence, (B, 1, H d), and append its key and value.

    projected: (B, 1, (H + 2 G) d), query, key and value, not rotated; cos and sin: float32 (length, d); keys
    and values: (B, G, length, d); position: int64 (1), on the device, so that a graph can be replayed; d is a
    power of two.
    """
    batch, groups, length, size = keys.shape
    heads = projected.shape[-1] // size - 2 * groups
    y = projected.new_empty((batch, 1, heads * size))
    _attend[(heads, batch)](
        projected, cos, sin, keys, values, position, y, length, scale, HEADS=heads, GROUPS=groups, SIZE=size,
        BLOCK=64, num_warps=4,
    )  # fmt: skip
    return y

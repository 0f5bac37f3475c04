"""Weights of active neurons, abs(activation)^p, as small integers in bit planes.

Integers, because their sums are the same in any order, on any number of threads and processes, and because
popcounts of bit planes are faster than a float product.
"""

import torch
from torch import Tensor

from actsparse.codebooks.assign import kernels
from actsparse.codebooks.packing import pack, pack_planes, packed_width

# The bits of a weight, and the largest weight over that of a typical magnitude; where a row has a larger one,
# its weights are all scaled down until that is the largest, so that massive activations stay massive.
# Few bits decide which centroid is nearest; sums of many members are worth some more.
ASSIGN_BITS, ASSIGN_LIMIT = 6, 8.0
UPDATE_BITS, UPDATE_LIMIT = 8, 64.0


def assign_weights(magnitudes: Tensor, scale: float, power: int) -> Tensor:
    """Return what `assign` takes for patterns whose active neurons weigh abs(activation)^power.

    Args:
        magnitudes: floating-point (n, D), zero where a neuron is inactive.
        scale: geometric mean of active magnitudes in this layer.
        power: 0 counts active neurons.

    Returns:
        Packed patterns, uint8 (n, ceil(D / 8)), for power 0; bit planes (n, bits, ceil(D / 8)) otherwise.
    """
    return _planes(magnitudes, scale, power, ASSIGN_BITS, ASSIGN_LIMIT)


def update_weights(magnitudes: Tensor, scale: float, power: int) -> Tensor:
    """Return what `add_to_sums` takes, as `assign_weights` does."""
    return _planes(magnitudes, scale, power, UPDATE_BITS, UPDATE_LIMIT)


def weights_plain(magnitudes: Tensor, scale: float, power: int, bits: int, limit: float) -> Tensor:
    """Do by torch operations what `assign_weights` and `update_weights` do for a power above 0."""
    relative = (magnitudes.float() / scale).pow_(power)
    steps = (2**bits - 1) / relative.amax(1, keepdim=True).clamp_(min=limit)
    return pack_planes(relative.mul_(steps).round_().int(), bits)


def _planes(magnitudes: Tensor, scale: float, power: int, bits: int, limit: float) -> Tensor:
    if power == 0:
        return pack(magnitudes > 0)
    if power > 2 or magnitudes.device.type != "cpu" or not (compiled := kernels()):
        return weights_plain(magnitudes, scale, power, bits, limit)
    count, width = magnitudes.shape
    rows = magnitudes.float().contiguous().numpy()
    planes = torch.empty(count, bits, -(-width // 64), dtype=torch.int64)

    def work(start: int, stop: int) -> None:
        compiled.weigh(rows[start:stop], scale, power, limit, planes.numpy()[start:stop])

    compiled.in_threads(work, count, max(1, compiled.THREAD_ENTRIES // width))
    return planes.view(torch.uint8)[..., : packed_width(width)]

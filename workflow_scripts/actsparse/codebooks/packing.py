"""Eight neurons a byte: activation patterns and centroids as packed bits, small weights as bit planes."""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

# Multiplying eight 0/1 bytes, read as one little-endian integer, by this number gathers them without carries
# in the highest byte, the first neuron in its lowest bit.
_GATHER = 0x0102040810204080


def packed_width(width: int) -> int:
    """Return the number of bytes that hold `width` neurons."""
    return (width + 7) // 8


def pack(mask: Tensor) -> Tensor:
    """Pack a bool mask (..., D) into uint8 (..., ceil(D / 8)) on the same device.

    Bit i of byte b is neuron 8 b + i; the bits behind the last neuron are zero.
    Raises TypeError when `mask` is not bool.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"pack: expected a bool mask, got {mask.dtype}")
    missing = -mask.shape[-1] % 8
    whole = (pad(mask, (0, missing)) if missing else mask).contiguous()
    if not whole.numel():
        return torch.zeros(*mask.shape[:-1], whole.shape[-1] // 8, dtype=torch.uint8, device=mask.device)
    gathered = whole.view(torch.int64) * _GATHER
    return gathered.view(torch.uint8)[..., 7::8].contiguous()


def unpack(packed: Tensor, width: int, dtype: torch.dtype = torch.bool) -> Tensor:
    """Unpack uint8 (..., ceil(width / 8)) into 0 and 1 of `dtype`, shape (..., width), on the same device.

    Raises ValueError when the number of bytes does not fit `width`.
    """
    if packed.shape[-1] != packed_width(width):
        raise ValueError(f"unpack: {packed.shape[-1]} bytes cannot hold exactly {width} neurons")
    bits = _bits_of_bytes(packed.device).index_select(0, packed.reshape(-1).int())
    whole = bits.view(torch.bool).reshape(*packed.shape[:-1], 8 * packed.shape[-1])
    return whole[..., :width].to(dtype)


def pack_planes(numbers: Tensor, bits: int) -> Tensor:
    """Pack integers (n, D), 0 <= number < 2^bits, into bit planes uint8 (n, bits, ceil(D / 8)).

    The first plane holds the highest bits. Higher bits than `bits` are lost.
    """
    return torch.stack([pack((numbers >> bit & 1).bool()) for bit in reversed(range(bits))], 1)


def unpack_planes(planes: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Unpack what `pack_planes` packed into numbers of `dtype`, shape (n, width)."""
    numbers = unpack(planes[:, 0], width, dtype)
    for plane in planes.unbind(1)[1:]:
        numbers = numbers.mul_(2).add_(unpack(plane, width, dtype))
    return numbers


def count_active(packed: Tensor) -> Tensor:
    """Return the number of active neurons, int64 (...), of packed patterns uint8 (..., B)."""
    counts = _bits_of_bytes(packed.device).view(torch.uint8).view(256, 8).sum(1, dtype=torch.uint8)
    return counts.index_select(0, packed.reshape(-1).int()).view(packed.shape).sum(-1)


@cache
def _bits_of_bytes(device: torch.device) -> Tensor:
    """Return the eight 0/1 bytes of each byte as one integer: int64 (256,)."""
    values = torch.arange(256, device=device).unsqueeze(1)
    bits = (values >> torch.arange(8, device=device)) & 1
    return bits.to(torch.uint8).contiguous().view(torch.int64).flatten()

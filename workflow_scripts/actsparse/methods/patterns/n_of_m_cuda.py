"""N:M pruning on a GPU: all pairs of a group compared in one kernel that torch.compile makes."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.utils._triton import has_triton


def prune_n_of_m(x: Tensor, scores: Tensor | None, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Return `x` (..., d) with all but the `n` best of each `m` elements zeroed, and whether `x` is finite.

    `scores` are of x's shape; None stands for abs(x). The flag stays on the device.
    """
    groups = (x.abs() if scores is None else scores).reshape(-1, m)
    own, rival = groups[:, :, None], groups[:, None, :]
    position = torch.arange(m, device=x.device)
    earlier = position[None, :] < position[:, None]
    ranks = ((rival > own) | ((rival == own) & earlier)).sum(dim=-1, dtype=torch.int32)
    return torch.where((ranks < n).reshape(x.shape), x, 0), x.isfinite().all()


@cache
def compiled() -> Callable | None:
    """Return prune_n_of_m compiled; None without Triton, torch's compiler for GPUs."""
    return torch.compile(prune_n_of_m, dynamic=True) if has_triton() else None

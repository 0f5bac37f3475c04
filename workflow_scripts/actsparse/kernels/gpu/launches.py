"""Kernels that are launched while the one before still runs (Hopper's programmatic dependent launch).

A launch costs as much as a small product. Such a kernel first waits for the one before to have finished, then
lets the next one be launched; nothing of memory may be touched before the wait.
"""

from functools import cache

import torch
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

__all__ = ["early", "gdc_launch_dependents", "gdc_wait"]


@cache
def early(device: torch.device) -> dict[str, bool]:
    """Return how to launch on a device: `PDL` for the kernel, `launch_pdl` for Triton."""
    known = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
    return {"PDL": True, "launch_pdl": True} if known else {"PDL": False}

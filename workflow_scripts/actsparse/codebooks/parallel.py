"""Fitting by several processes, each with its share of the patterns.

What they tell each other are integers: sums over all patterns, one number for each pattern, single patterns.
So the codebook is the same to the last bit, however many there are. Without a process group there is one.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> tuple[int, int]:
    """Return this process's number, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share(count: int) -> tuple[int, int]:
    """Return where this process's share of range(count) starts and ends; the first has the first share."""
    number, of = processes()
    return count * number // of, count * (number + 1) // of


def summed(numbers: Tensor) -> Tensor:
    """Add to integers, in place, those of all other processes; return them."""
    if processes()[1] > 1:
        dist.all_reduce(numbers)
    return numbers


def start_of_share(count: int, device: torch.device) -> tuple[int, int]:
    """Return the position of this process's first pattern among all, and how many there are.

    `count` is the number of this process's patterns.
    """
    number, of = processes()
    counts = torch.zeros(of, dtype=torch.int64, device=device)
    counts[number] = count
    counts = summed(counts).tolist()
    return sum(counts[:number]), sum(counts)


def gathered(numbers: Tensor) -> Tensor:
    """Return the integers, int64 (n,), that all processes have for their patterns, in the patterns' order."""
    start, total = start_of_share(len(numbers), numbers.device)
    everyone = torch.zeros(total, dtype=numbers.dtype, device=numbers.device)
    everyone[start : start + len(numbers)] = numbers
    return summed(everyone)


def spread(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(*arguments)` in `count` new processes of this machine, on a visible GPU each, or on the CPU.

    `work` must be a function that can be imported. When it raises in one process, the others are stopped and
    the error is raised here.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{Path(folder).resolve()}/meeting"
        torch.multiprocessing.spawn(_take_part, (count, meeting, work, arguments), count)


def _take_part(number: int, of: int, meeting: str, work: Callable[..., None], arguments: tuple) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # they are all on this machine
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(number)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=meeting, rank=number, world_size=of)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()

"""The processor a job computes on."""

import os

import torch


def use_threads(count: int) -> None:
    """Let torch (and numba, where it is used) compute with `count` CPU threads."""
    torch.set_num_threads(count)
    os.environ["NUMBA_NUM_THREADS"] = str(count)


def pick_device(word: str) -> torch.device:
    """Turn the config's `device` (auto, cpu, cuda) into a device.

    Raises ValueError when a GPU is asked for and none is visible.
    """
    if word == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if word == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda, but no GPU is visible to this job (allowed: auto, cpu, cuda)")
    return torch.device(word)

"""Evaluation in the memory there is: a batch that does not fit is halved."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

T = TypeVar("T")


def halving_batch(attempt: Callable[[int], T], batch_size: int) -> tuple[T, int]:
    """Return what `attempt` gives for the first batch size that fits, halving `batch_size`, and that size.

    Raises MemoryError with the remedies when one sequence does not fit; other errors pass.
    """
    while True:
        try:
            return attempt(batch_size), batch_size
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if batch_size == 1:
                raise MemoryError(
                    "out of memory with one sequence at a time; use a larger device, several (gpus_per_job), "
                    f"shorter windows or dtype bfloat16 ({error})"
                ) from None
        # Not before the handler has ended: the error keeps the attempt's tensors alive.
        gc.collect()
        torch.cuda.empty_cache()
        batch_size //= 2
        print(f"out of memory; once more with batches of {batch_size}", flush=True)

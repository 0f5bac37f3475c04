"""Trying again what failed because of the network, and nothing else."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSES = (1, 4)  # seconds before the second and the third try
BUSY = 429
TRANSIENT = {"ConnectionError", "TimeoutError", "Timeout", "TransportError", "ChunkedEncodingError"}


def retried(call: Callable[[], T], pauses: tuple[float, ...] = PAUSES) -> T:
    """Return what `call` returns, trying again after each pause as long as it fails on the network."""
    for pause in pauses:
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"trying again in {pause} s: {reason}", flush=True)
        time.sleep(pause)
    return call()


def is_transient(error: Exception) -> bool:
    """Tell whether an error is of the network: no connection, one cut short, a busy or broken server."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status == BUSY or status >= 500
    cut_short = isinstance(error, OSError) and "Consistency check failed" in str(error)
    # By name, because the hub's client changed from one library to another.
    return cut_short or bool(TRANSIENT & {kind.__name__ for kind in type(error).__mro__})

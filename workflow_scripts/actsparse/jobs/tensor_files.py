"""Reading safetensors files, with errors that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor


@contextmanager
def opened(source: str | Path) -> Iterator[Any]:
    """Open a safetensors file. Raises ValueError that names it when it is cut off or something else."""
    try:
        with safe_open(source, "pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise ValueError(
            f"{source}: not a whole safetensors file ({error}); delete it and it is made again"
        ) from None


def read_tensors(source: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a file. Raises ValueError that names it when it is not whole."""
    with opened(source) as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (it is no dict)

"""Tensors by site: calibration statistics, trained parameters, pruned weights; all in one file format."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from actsparse.jobs.files import atomic_path
from actsparse.jobs.tensor_files import read_tensors
from actsparse.models.sites import Site

# {name of a linear layer: {what: tensor}}
PerSite = dict[str, dict[str, Tensor]]


def of_site(table: PerSite, site: Site, what: str, like: Tensor | None = None) -> Tensor:
    """Return a site's tensor, on the device and in the dtype of `like` if given.

    Raises ValueError that names the site when the table lacks it.
    """
    try:
        tensor = table[site.module_name][what]
    except KeyError:
        raise ValueError(f"{site.name}: no {what} was calibrated or trained for it") from None
    return tensor if like is None else tensor.to(device=like.device, dtype=like.dtype)


def save_per_site(table: PerSite, target: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write a table as safetensors with keys "<layer name>/<what>", atomically."""
    flat = {
        f"{name}/{what}": tensor.contiguous() for name, row in table.items() for what, tensor in row.items()
    }
    with atomic_path(target) as temporary:
        save_file(flat, temporary, metadata=metadata)


def load_per_site(source: str | Path) -> PerSite:
    """Read a table. Raises ValueError naming a file that is not whole."""
    table: PerSite = {}
    for key, tensor in read_tensors(source).items():
        name, _, what = key.rpartition("/")
        table.setdefault(name, {})[what] = tensor
    return table

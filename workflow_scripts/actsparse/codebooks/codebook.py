"""A codebook and its file: the centroids of every projection in one safetensors file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from actsparse.files import atomic_path


@dataclass(frozen=True)
class Codebook:
    """The centroids of one projection.

    centroids: packed, uint8 (K, ceil(D / 8)) pooled over layers, or (layers, K, ceil(D / 8)).
    baseline: the trivial codebook, one centroid for each layer, uint8 (layers, ceil(D / 8)).
    width: D.
    objective: shared active neurons of patterns and centroids before each step and at the end; one such list
        for each layer where `centroids` has layers.
    """

    centroids: Tensor
    baseline: Tensor
    width: int
    objective: list

    def of_layer(self, layer: int) -> Tensor:
        """Return the centroids that patterns of `layer` choose from, uint8 (K, ceil(D / 8))."""
        return self.centroids if self.centroids.ndim == 2 else self.centroids[layer]


def ones_in_centroid(width: int, centroid_sparsity: float) -> int:
    """Return round((1 - s) D), the number of active neurons in each centroid.

    Raises ValueError unless 0 <= s < 1 and at least one neuron is left.
    """
    ones = round((1 - centroid_sparsity) * width)
    if not 0 <= centroid_sparsity < 1 or ones == 0:
        raise ValueError(f"centroid_sparsity: {centroid_sparsity} leaves {ones} of {width} neurons active")
    return ones


def save_codebooks(target: str | Path, codebooks: dict[str, Codebook], spec: dict[str, Any]) -> None:
    """Write one codebook per projection, and what they were fitted with (JSON values), atomically."""
    tensors = {}
    for projection, codebook in codebooks.items():
        tensors[projection] = codebook.centroids.contiguous()
        tensors[f"{projection}.baseline"] = codebook.baseline.contiguous()
    about = {
        "spec": spec,
        "widths": {name: codebook.width for name, codebook in codebooks.items()},
        "objective": {name: codebook.objective for name, codebook in codebooks.items()},
    }
    # One entry, because safetensors writes several in an order that changes from run to run.
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, {"codebooks": json.dumps(about, sort_keys=True)})


def load_codebooks(source: str | Path) -> tuple[dict[str, Codebook], dict[str, Any]]:
    """Read what `save_codebooks` wrote. Raises ValueError naming a file that is not whole."""
    try:
        with safe_open(source, "pt") as opened:
            about = json.loads((opened.metadata() or {})["codebooks"])
            codebooks = {
                name: Codebook(
                    opened.get_tensor(name),
                    opened.get_tensor(f"{name}.baseline"),
                    width,
                    about["objective"][name],
                )
                for name, width in about["widths"].items()
            }
            return codebooks, about["spec"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{source}: not a whole codebook file ({error})") from error

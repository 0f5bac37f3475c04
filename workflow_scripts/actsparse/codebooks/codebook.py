"""A codebook and its file: the centroids of every projection in one safetensors file."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from actsparse.codebooks.assign import assign, centroid_masks
from actsparse.codebooks.contribution import own_part
from actsparse.codebooks.packing import count_active, pack
from actsparse.codebooks.weights import assign_weights
from actsparse.jobs.files import atomic_path
from actsparse.models.sites import Site


@dataclass(frozen=True)
class Codebook:
    """The centroids of one projection, whose D neurons are split into G equal groups of neighbours.

    centroids: packed, uint8 (1, G, K, ceil(D / G / 8)) pooled over layers, or (layers, G, K, ...).
    baseline: the trivial codebook, one centroid for each layer, uint8 (layers, ceil(D / 8)); None for given
        centroids, whose patterns are not known.
    width: D.
    objective: shared active neurons of patterns and centroids (or their weight) before each step and at the
        end; one such list for each group of each of `centroids`' layers.
    assign_power: a token's neurons weigh abs(activation)^assign_power when its centroid is chosen.
    scales: geometric mean of active magnitudes, float64 (layers); needed with assign_power.
    factors: what a neuron's own part is multiplied by to give its importance, float32 (layers, D), if it was
        fitted by contribution (see `contribution`).
    recall: share of active neurons that the centroids cover in the patterns they were `fitting`, and in those
        that were `held_out` of it, if any were.
    unseen: what the centroids cover of patterns of another text (see `quality`), if that was measured.
    """

    centroids: Tensor
    baseline: Tensor | None
    width: int
    objective: list
    assign_power: int = 0
    scales: Tensor | None = None
    factors: Tensor | None = None
    recall: dict[str, float] = field(default_factory=dict)
    unseen: dict[str, float | None] = field(default_factory=dict)

    @property
    def groups(self) -> int:
        """G."""
        return self.centroids.shape[1]

    @property
    def clusters(self) -> int:
        """K."""
        return self.centroids.shape[2]

    @property
    def index_bits(self) -> int:
        """Bits that name the centroids of one pattern."""
        return self.groups * (self.clusters - 1).bit_length()

    def of_layer(self, layer: int) -> Tensor:
        """Return the centroids that patterns of `layer` choose from, uint8 (G, K, ceil(D / G / 8))."""
        return self.centroids[layer if len(self.centroids) > 1 else 0]

    def ones(self, layer: int) -> int:
        """Return how many neurons a centroid of `layer` keeps, in a group."""
        return int(count_active(self.of_layer(layer)[0, :1]))

    def worth(self, values: Tensor, site: Site) -> Tensor:
        """Return what `choose` weighs a site's output (n, D) by: abs(output), or its neurons' importance."""
        if self.factors is None:
            return values.abs()
        return own_part(values, site) * self.factors[site.layer].to(values.device)

    def choose(self, magnitudes: Tensor, layer: int) -> Tensor:
        """Return each pattern's nearest centroids, int64 (n, G): the oracle's assignment.

        `magnitudes` are floating-point (n, D), zero where a neuron is inactive; with `factors`, importances.
        """
        if self.needs_no_magnitudes:
            return self.choose_for(pack(magnitudes > 0), layer)
        scale = 1.0 if self.scales is None else float(self.scales[layer])
        index = []
        for part, centroids in zip(magnitudes.chunk(self.groups, 1), self.of_layer(layer), strict=True):
            weighted = assign_weights(part, scale, self.assign_power)
            index.append(assign(weighted, centroids.to(part.device), part.shape[1])[0])
        return torch.stack(index, 1)

    @property
    def needs_no_magnitudes(self) -> bool:
        """Whether packed patterns of all D neurons are all that the assignment looks at."""
        return self.groups == 1 and self.assign_power == 0

    def choose_for(self, patterns: Tensor, layer: int) -> Tensor:
        """Return what `choose` does, where it `needs_no_magnitudes`, for packed patterns, uint8 (n, B)."""
        centroids = self.of_layer(layer)[0].to(patterns.device)
        return assign(patterns, centroids, self.width)[0][:, None]

    def masks(self, index: Tensor, layer: int) -> Tensor:
        """Return the masks, bool (n, D), of the centroids that `index`, int64 (n, G), names."""
        width = self.width // self.groups
        parts = zip(index.unbind(1), self.of_layer(layer).to(index.device), strict=True)
        return torch.cat([centroid_masks(some, centroids, width) for some, centroids in parts], 1)

    def packed_masks(self, index: Tensor, layer: int) -> Tensor:
        """Return what `masks` does, packed, uint8 (n, ceil(D / 8))."""
        if self.groups == 1:
            return self.of_layer(layer)[0].to(index.device).index_select(0, index[:, 0])
        return pack(self.masks(index, layer))


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
    tensors, about = {}, {"spec": spec, "codebooks": {}}
    for projection, codebook in codebooks.items():
        tensors[projection] = codebook.centroids.contiguous()
        for key in ("baseline", "scales", "factors"):
            if getattr(codebook, key) is not None:
                tensors[f"{projection}.{key}"] = getattr(codebook, key).contiguous()
        about["codebooks"][projection] = {
            key: getattr(codebook, key) for key in ("width", "objective", "assign_power", "recall", "unseen")
        }
    # One entry, because safetensors writes several in an order that changes from run to run.
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, {"codebooks": json.dumps(about, sort_keys=True)})


def load_codebooks(source: str | Path) -> tuple[dict[str, Codebook], dict[str, Any]]:
    """Read what `save_codebooks` wrote. Raises ValueError naming a file that is not whole."""
    try:
        with safe_open(source, "pt") as opened:
            about = json.loads((opened.metadata() or {})["codebooks"])
            present = set(opened.keys())
            codebooks = {}
            for name, rest in about["codebooks"].items():
                for key in ("baseline", "scales", "factors"):
                    stored = f"{name}.{key}"
                    rest[key] = opened.get_tensor(stored) if stored in present else None
                codebooks[name] = Codebook(opened.get_tensor(name), **rest)
            return codebooks, about["spec"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: not a whole codebook file ({error})") from error

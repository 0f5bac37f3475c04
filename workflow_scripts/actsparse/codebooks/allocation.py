"""How much centroids leave out: the same share everywhere, or where it costs least energy.

What a token loses with a neuron is worth more in one layer or projection than in another: down has few
neurons, each a part of the output itself, and the first layers spread their energy over all of theirs.
"""

import torch
from torch import Tensor

from actsparse.codebooks import ALGORITHMS
from actsparse.codebooks.fit import active_counts, fitting_tokens
from actsparse.codebooks.parallel import share, summed
from actsparse.codebooks.pattern_store import PatternStore

# Magnitudes are rounded to this part of their layer's geometric mean, so that sums are exact in any order.
FRACTION = 2**16
BLOCK_ROWS = 2**11


def sparsities(
    store: PatternStore, allocation: str, centroid_sparsity: float, algorithm: str, patterns: int
) -> dict[str, float] | dict[str, list[float]]:
    """Return what `fit_codebook` takes as centroid_sparsity, by projection: the given one (`uniform`), or
    what `shares_by_energy` returns (`by_energy`).
    """
    if allocation == "by_energy":
        return shares_by_energy(store, centroid_sparsity, algorithm, patterns)
    return dict.fromkeys(store.widths, centroid_sparsity)


def shares_by_energy(
    store: PatternStore, centroid_sparsity: float, algorithm: str, patterns: int
) -> dict[str, list[float]]:
    """Return what `share_out` does for the fitting tokens of a store; each process reads its share of them.

    `algorithm` and `patterns` are those of `fit_codebook`. A neuron's energy is the sum of its magnitudes (or
    importances) or, for an algorithm that weighs none, how often it is active.
    """
    tokens = fitting_tokens(store, patterns)
    energy_of = energies if ALGORITHMS[algorithm].says.get("weighs") else active_counts
    return share_out({name: energy_of(store, name, tokens) for name in store.widths}, centroid_sparsity)


def energies(store: PatternStore, projection: str, tokens: int) -> Tensor:
    """Return the sum of each neuron's magnitudes, int64 (layers, D), in units of its layer."""
    sums = torch.zeros(store.layers, store.widths[projection], dtype=torch.int64)
    span = share(len(store.token_positions(tokens)) * store.layers)
    units = (FRACTION / store.magnitude_scales(projection)).tolist()
    for magnitudes, layer in store.magnitude_blocks(projection, None, tokens, BLOCK_ROWS, span):
        sums[layer] += (magnitudes.double() * units[layer]).round_().long().sum(0)
    return summed(sums)


def share_out(energy: dict[str, Tensor], centroid_sparsity: float) -> dict[str, list[float]]:
    """Return the centroid sparsity of each layer, by projection; the given one is their mean over neurons.

    Neurons are left out in the order of their part of the energy of their layer and projection, the smallest
    first, as if every layer had one centroid. So the last one left out costs the same part everywhere.

    Args:
        energy: integers (layers, D), by projection; what is lost without a neuron.
        centroid_sparsity: share of all neurons to leave out, at least 0 and below 1.
    """
    parts = {name: some / some.sum(1, keepdim=True).clamp(min=1) for name, some in energy.items()}
    every = torch.cat([part.flatten() for part in parts.values()])
    left_out = torch.zeros(len(every), dtype=torch.float64)
    left_out[every.argsort(stable=True)[: round(centroid_sparsity * len(every))]] = 1
    split = left_out.split([part.numel() for part in parts.values()])
    return {
        name: some.view(part.shape).mean(1).tolist()
        for (name, part), some in zip(parts.items(), split, strict=True)
    }

"""How well centroids cover activation patterns, beside the trivial centroid of each layer."""

from dataclasses import dataclass

import torch

from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import unpack
from actsparse.codebooks.pattern_store import PatternStore

ROWS = 2**13  # patterns unpacked at a time


@dataclass(frozen=True)
class Quality:
    """Over all patterns m with their centroids c, assigned by the oracle.

    recall: sum(m and c) / sum(m). precision: sum(m and c) / sum(c). energy: the share of the sum of
    abs(activation) over active neurons that is covered; None when the store has no magnitudes.
    baseline_...: the same with one centroid for each layer.
    """

    recall: float
    precision: float
    energy: float | None
    baseline_recall: float
    baseline_precision: float
    baseline_energy: float | None


def measure(store: PatternStore, projection: str, codebook: Codebook, tokens: int | None = None) -> Quality:
    """Measure `codebook` on `tokens` evenly spaced tokens of each layer of `store` (all by default).

    Streams the patterns. Raises ValueError when the store's layers or width are not the codebook's, or it
    lacks the magnitudes that the codebook's assignment needs.
    """
    if codebook.baseline is None:
        raise ValueError(f"{projection}: the codebook is a given one, without a baseline to compare it with")
    if (store.layers, store.widths.get(projection)) != (len(codebook.baseline), codebook.width):
        raise ValueError(f"{store.folder}: layers or width of {projection} are not those of the codebook")
    if codebook.assign_power or store.magnitudes:
        blocks = store.magnitude_blocks(projection, tokens=tokens, block_rows=ROWS)
    else:
        patterns = store.blocks(projection, tokens=tokens, block_rows=ROWS)
        blocks = ((unpack(some, codebook.width, torch.float32), layer) for some, layer in patterns)
    # Rows: the codebook, the baseline. Columns: active neurons covered, neurons offered, magnitude covered.
    counted = torch.zeros(2, 3, dtype=torch.float64)
    active = total = 0.0
    for magnitudes, layer in blocks:
        masks = codebook.masks(codebook.choose(magnitudes, layer), layer)
        single = unpack(codebook.baseline[layer], codebook.width)
        active += magnitudes.count_nonzero().item()
        total += magnitudes.sum(dtype=torch.float64).item()
        for row, mask in zip(counted, (masks, single.expand_as(masks)), strict=True):
            covered = torch.where(mask, magnitudes, 0)
            row += torch.stack(
                [covered.count_nonzero(), mask.count_nonzero(), covered.sum(dtype=torch.float64)]
            )
    (recall, precision, energy), (single_recall, single_precision, single_energy) = (
        (covered / active, covered / offered, kept / total if store.magnitudes else None)
        for covered, offered, kept in counted.tolist()
    )
    return Quality(recall, precision, energy, single_recall, single_precision, single_energy)

"""Patterns as the artifact of arXiv 2507.14179 collected them: all layers of a sequence at a time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from actsparse.codebooks.pattern_store import PatternStore


class Chunks:
    """The packed patterns of some layers of a store, uint8 (rows, B), a chunk for each sequence.

    tokens: the positions of those wanted, ascending, int64.
    part: what is done to packed patterns before they are given.
    """

    def __init__(
        self,
        store: PatternStore,
        projection: str,
        layers: list[int],
        tokens: Tensor,
        part: Callable[[Tensor], Tensor],
    ) -> None:
        self.store, self.projection, self.layers, self.part = store, projection, layers, part
        _, counts = store.sequences(tokens).unique_consecutive(return_counts=True)
        self.tokens = tokens.split(counts.tolist())

    def __iter__(self) -> Iterator[Tensor]:
        for tokens in self.tokens:
            found: dict[int, list[Tensor]] = {layer: [] for layer in self.layers}
            for patterns, layer in self.store.blocks(self.projection, self.layers, tokens):
                found[layer].append(self.part(patterns))
            yield torch.cat([some for blocks in found.values() for some in blocks])

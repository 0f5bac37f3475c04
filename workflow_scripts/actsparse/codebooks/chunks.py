"""Patterns as the artifact of arXiv 2507.14179 collected them: all layers of a sequence at a time."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from actsparse.codebooks.packing import pack, unpack
from actsparse.codebooks.pattern_store import PatternStore


class Chunk(NamedTuple):
    """Some patterns.

    patterns: which neurons reach the threshold, packed, uint8 (n, ceil(D / 8)).
    active: which count as active, the same or those of positive output.
    values: what is averaged, floating-point (n, D); the patterns themselves if None.
    """

    patterns: Tensor
    active: Tensor
    values: Tensor | None = None


class Chunks:
    """The patterns of some layers of a store, a `Chunk` for each sequence, as often as needed.

    tokens: the positions of those wanted, ascending, int64.
    rows: what is read: `binary`, `magnitudes` (0 under the threshold) or `raw`, the outputs whatever the
        threshold, of which those above 0 are active.
    group: which of how many equal parts of the neurons to take.
    device: where chunks are.
    """

    def __init__(
        self,
        store: PatternStore,
        projection: str,
        layers: list[int],
        tokens: Tensor,
        rows: str = "binary",
        group: tuple[int, int] = (0, 1),
        device: torch.device | str = "cpu",
    ) -> None:
        self.store, self.projection, self.layers, self.rows = store, projection, layers, rows
        self.group, self.device = group, device
        _, counts = store.sequences(tokens).unique_consecutive(return_counts=True)
        self.tokens = tokens.split(counts.tolist())

    def __iter__(self) -> Iterator[Chunk]:
        for tokens in self.tokens:
            where = self.projection, self.layers, tokens
            patterns = self._by_layer(self.store.blocks(*where))
            if self.group[1] > 1:
                patterns = pack(self._part(unpack(patterns, self.store.widths[self.projection])))
            if self.rows == "binary":
                yield Chunk(patterns, patterns)
            elif self.rows == "magnitudes":
                yield Chunk(
                    patterns, patterns, self._part(self._by_layer(self.store.magnitude_blocks(*where)))
                )
            else:
                values = self._part(self._by_layer(self.store.value_blocks(*where)))
                yield Chunk(patterns, pack(values > 0), values)

    def _by_layer(self, blocks: Iterable[tuple[Tensor, int]]) -> Tensor:
        """Return the rows of all blocks; blocks come shard by shard."""
        found: dict[int, list[Tensor]] = {layer: [] for layer in self.layers}
        for block, layer in blocks:
            found[layer].append(block)
        return torch.cat([some for blocks in found.values() for some in blocks]).to(self.device)

    def _part(self, whole: Tensor) -> Tensor:
        return whole.chunk(self.group[1], 1)[self.group[0]]

"""Fit the codebook of one projection to a pattern store."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from actsparse.codebooks import NEED_MAGNITUDES, SCOPES, algorithm_named
from actsparse.codebooks.alternation import Block
from actsparse.codebooks.codebook import Codebook, ones_in_centroid
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries
from actsparse.codebooks.weights import assign_weights, update_weights
from actsparse.packing import pack, unpack
from actsparse.pattern_store import PatternStore

BLOCK_BYTES = 2**26
CACHE_BYTES = 2**30


class PatternStream:
    """The packed patterns of some layers of a store, in blocks; iterate over it as often as needed.

    group: which of how many equal parts of the neurons to take.
    powers: yield weighted `Block`s instead, abs(activation) to the powers of assignment and update.
    cache_bytes: blocks are kept after the first time if together they need no more than this.
    """

    def __init__(
        self,
        store: PatternStore,
        projection: str,
        layers: list[int],
        tokens: int,
        group: tuple[int, int] = (0, 1),
        powers: tuple[int, int] | None = None,
        block_bytes: int = BLOCK_BYTES,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.store, self.projection, self.layers, self.tokens = store, projection, layers, tokens
        self.group, self.powers, self.block_bytes, self.cache_bytes = group, powers, block_bytes, cache_bytes
        self._cached: list[Tensor | Block] | None = None

    def __iter__(self) -> Iterator[Tensor | Block]:
        if self._cached is not None:
            yield from self._cached
            return
        kept, size = [], 0
        for block in self._plain() if self.powers is None else self._weighted():
            size += sum({id(part): part.nbytes for part in _parts(block)}.values())
            if size <= self.cache_bytes:
                kept.append(block)
            else:
                kept.clear()
            yield block
        self._cached = kept if size <= self.cache_bytes else None

    def _plain(self) -> Iterator[Tensor]:
        """Yield packed patterns; small ones, of several layers, together."""
        waiting, size = [], 0
        for patterns, _ in self.store.blocks(self.projection, self.layers, self.tokens):
            some = self._of_group(patterns)
            if waiting and size + some.nbytes > self.block_bytes:
                yield torch.cat(waiting)
                waiting, size = [], 0
            waiting.append(some)
            size += some.nbytes
        yield torch.cat(waiting)

    def _weighted(self) -> Iterator[Block]:
        assign_power, update_power = self.powers
        scales = self.store.magnitude_scales(self.projection).tolist()
        for whole, layer in self.store.magnitude_blocks(self.projection, self.layers, self.tokens):
            magnitudes = whole.chunk(self.group[1], 1)[self.group[0]]
            yield Block(
                pack(magnitudes > 0),
                assign_weights(magnitudes, scales[layer], assign_power),
                update_weights(magnitudes, scales[layer], update_power),
            )

    def _of_group(self, patterns: Tensor) -> Tensor:
        group, groups = self.group
        if groups == 1:
            return patterns
        width = self.store.widths[self.projection]
        return pack(unpack(patterns, width).chunk(groups, 1)[group])


def fit_codebook(
    store: PatternStore,
    projection: str,
    clusters: int,
    centroid_sparsity: float,
    algorithm: str,
    scope: str,
    patterns: int,
    steps: int,
    seed: int,
    groups: int = 1,
    options: dict[str, Any] | None = None,
) -> Codebook:
    """Fit the centroids of `projection`.

    Args:
        store: the activation patterns.
        projection: one of the store's.
        clusters: K, of the whole projection (scope pooled) or of each layer (per_layer), in each group.
        centroid_sparsity: share of inactive neurons in each centroid; round((1 - s) D / groups) are active.
        algorithm: a word of `actsparse.codebooks.ALGORITHMS`.
        scope: `pooled` (one codebook for all layers, as published) or `per_layer`.
        patterns: fit to at most this many, over all layers: evenly spaced tokens, the same for each layer.
        steps: the largest number of centroid updates.
        seed: of the random choices.
        groups: a product codebook: equal groups of neighbouring neurons, each with a codebook of its own.
        options: fields of the algorithm's class beyond `steps` and `seed`.

    Raises:
        ValueError: unknown algorithm, scope or projection; groups that do not divide the width; a sparsity
            that leaves no neuron; more clusters than patterns; a damaged shard. One line each.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope: {scope!r} is unknown (allowed: {', '.join(SCOPES)})")
    if projection not in store.widths:
        raise ValueError(f"projection: {projection!r} has no patterns (known: {', '.join(store.widths)})")
    width, layers = store.widths[projection], list(range(store.layers))
    if width % groups:
        raise ValueError(f"groups: {groups} do not divide the {width} neurons of {projection}")
    ones = ones_in_centroid(width // groups, centroid_sparsity)
    tokens = fitting_tokens(store, patterns)
    method = algorithm_named(algorithm)(steps=steps, seed=seed, **options or {})
    powers = (method.assign_power, method.update_power) if algorithm in NEED_MAGNITUDES else None

    fitted = [
        [
            method.fit(
                PatternStream(store, projection, some, tokens, (group, groups), powers),
                width // groups,
                clusters,
                ones,
            )
            for group in range(groups)
        ]
        for some in ([layers] if scope == "pooled" else [[layer] for layer in layers])
    ]
    return Codebook(
        centroids=torch.stack([torch.stack([centroids for centroids, _ in row]) for row in fitted]),
        baseline=single_centroids(store, projection, ones_in_centroid(width, centroid_sparsity), tokens),
        width=width,
        objective=[[history for _, history in row] for row in fitted],
        assign_power=powers[0] if powers else 0,
        scales=store.magnitude_scales(projection) if powers else None,
    )


def fitting_tokens(store: PatternStore, patterns: int) -> int:
    """Return how many tokens give at most `patterns` patterns over all layers, but at least one token."""
    return max(1, min(store.tokens, patterns // store.layers))


def single_centroids(store: PatternStore, projection: str, ones: int, tokens: int | None = None) -> Tensor:
    """Return each layer's `ones` neurons most active in `tokens` evenly spaced tokens, uint8 (layers, B)."""
    sums = no_sums(store.layers, store.widths[projection], torch.device("cpu"))
    for block, layer in store.blocks(projection, tokens=tokens):
        add_to_sums(sums, block, torch.full((len(block),), layer))
    return top_entries(sums, ones)


def _parts(block: Tensor | Block) -> tuple[Tensor, ...]:
    return block if isinstance(block, Block) else (block,)

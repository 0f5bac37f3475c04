"""Fit the codebook of one projection to a pattern store."""

from collections.abc import Iterator

import torch
from torch import Tensor

from actsparse.codebooks import SCOPES, algorithm_named
from actsparse.codebooks.codebook import Codebook, ones_in_centroid
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries
from actsparse.pattern_store import PatternStore

BLOCK_BYTES = 2**26


class PatternStream:
    """The packed patterns of some layers of a store, in blocks; iterate over it as often as needed.

    Patterns that fit in one block are kept in memory after the first time.
    """

    def __init__(
        self,
        store: PatternStore,
        projection: str,
        layers: list[int],
        tokens: int,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.store, self.projection, self.layers, self.tokens = store, projection, layers, tokens
        self.block_bytes = block_bytes
        self._only_block: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        if self._only_block is not None:
            yield self._only_block
            return
        waiting, size, complete = [], 0, 0
        for patterns, _ in self.store.blocks(self.projection, self.layers, self.tokens):
            if waiting and size + patterns.nbytes > self.block_bytes:
                yield torch.cat(waiting)
                waiting, size, complete = [], 0, complete + 1
            waiting.append(patterns)
            size += patterns.nbytes
        block = torch.cat(waiting)
        if not complete:
            self._only_block = block
        yield block


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
) -> Codebook:
    """Fit the centroids of `projection`.

    Args:
        store: the activation patterns.
        projection: one of the store's.
        clusters: K, of the whole projection (scope pooled) or of each layer (per_layer).
        centroid_sparsity: share of inactive neurons in each centroid; round((1 - s) D) are active.
        algorithm: a word of `actsparse.codebooks.ALGORITHMS`.
        scope: `pooled` (one codebook for all layers, as published) or `per_layer`.
        patterns: fit to at most this many, over all layers: evenly spaced tokens, the same for each layer.
        steps: the largest number of centroid updates.
        seed: of the random choices.

    Raises:
        ValueError: unknown algorithm, scope or projection; a sparsity that leaves no neuron; more clusters
            than patterns; a damaged shard. One line each.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope: {scope!r} is unknown (allowed: {', '.join(SCOPES)})")
    if projection not in store.widths:
        raise ValueError(f"projection: {projection!r} has no patterns (known: {', '.join(store.widths)})")
    width, layers = store.widths[projection], list(range(store.layers))
    ones = ones_in_centroid(width, centroid_sparsity)
    tokens = fitting_tokens(store, patterns)
    method = algorithm_named(algorithm)(steps=steps, seed=seed)

    def fit_to(some_layers: list[int]) -> tuple[Tensor, list]:
        return method.fit(PatternStream(store, projection, some_layers, tokens), width, clusters, ones)

    if scope == "pooled":
        centroids, objective = fit_to(layers)
    else:
        fitted = [fit_to([layer]) for layer in layers]
        centroids = torch.stack([found for found, _ in fitted])
        objective = [history for _, history in fitted]
    return Codebook(centroids, single_centroids(store, projection, ones, tokens), width, objective)


def fitting_tokens(store: PatternStore, patterns: int) -> int:
    """Return how many tokens give at most `patterns` patterns over all layers, but at least one token."""
    return max(1, min(store.tokens, patterns // store.layers))


def single_centroids(store: PatternStore, projection: str, ones: int, tokens: int | None = None) -> Tensor:
    """Return each layer's `ones` neurons most active in `tokens` evenly spaced tokens, uint8 (layers, B)."""
    sums = no_sums(store.layers, store.widths[projection], torch.device("cpu"))
    for block, layer in store.blocks(projection, tokens=tokens):
        add_to_sums(sums, block, torch.full((len(block),), layer))
    return top_entries(sums, ones)

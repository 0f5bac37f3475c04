"""Fit the codebook of one projection to a pattern store.

In a process group of torch.distributed each process reads its share of the patterns; all get the codebook.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from actsparse.codebooks import ALGORITHMS
from actsparse.codebooks.alternation import Block, Stream
from actsparse.codebooks.chunks import Chunks
from actsparse.codebooks.codebook import Codebook, ones_in_centroid
from actsparse.codebooks.packing import pack, unpack
from actsparse.codebooks.parallel import processes, share, summed
from actsparse.codebooks.pattern_store import PatternStore
from actsparse.codebooks.selection import covered_and_active, replace_rare
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries
from actsparse.codebooks.weights import assign_weights, update_weights

SCOPES = ("pooled", "per_layer")
BLOCK_BYTES = 2**26
CACHE_BYTES = 2**30
CPU = torch.device("cpu")


class PatternStream:
    """The packed patterns of some layers of a store, in blocks; iterate over it as often as needed.

    With several processes, those of this process's share.

    tokens: how many evenly spaced ones, or the positions of those wanted.
    device: where the blocks are.
    group: which of how many equal parts of the neurons to take.
    powers: yield weighted `Block`s instead, abs(activation) to the powers of assignment and update.
    cache_bytes: blocks are kept after the first time if together they need no more than this.
    """

    def __init__(
        self,
        store: PatternStore,
        projection: str,
        layers: list[int],
        tokens: int | Tensor,
        group: tuple[int, int] = (0, 1),
        powers: tuple[int, int] | None = None,
        device: torch.device = CPU,
        block_bytes: int = BLOCK_BYTES,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.store, self.projection, self.layers, self.device = store, projection, layers, device
        self.tokens = tokens if isinstance(tokens, Tensor) else store.token_positions(tokens)
        self.span = share(len(self.tokens) * len(layers))
        self.group, self.powers, self.block_bytes, self.cache_bytes = group, powers, block_bytes, cache_bytes
        self._cached: list[Tensor | Block] | None = None

    def __iter__(self) -> Iterator[Tensor | Block]:
        if self._cached is not None:
            yield from self._cached
            return
        kept, size = [], 0
        for found in self._plain() if self.powers is None else self._weighted():
            block = _moved(found, self.device)
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
        for patterns, _ in self.store.blocks(self.projection, self.layers, self.tokens, span=self.span):
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
        blocks = self.store.magnitude_blocks(self.projection, self.layers, self.tokens, span=self.span)
        for whole, layer in blocks:
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
    centroid_sparsity: float | Sequence[float],
    algorithm: str,
    scope: str,
    patterns: int,
    steps: int,
    seed: int,
    groups: int = 1,
    options: dict[str, Any] | None = None,
    device: torch.device = CPU,
) -> Codebook:
    """Fit the centroids of `projection`.

    Args:
        store: the activation patterns.
        projection: one of the store's.
        clusters: K, of the whole projection (scope pooled) or of each layer (per_layer), in each group.
        centroid_sparsity: share of inactive neurons in each centroid; round((1 - s) D / groups) are active.
            One for each layer, if they differ; pooled centroids have their mean.
        algorithm: a word of `actsparse.codebooks.ALGORITHMS`.
        scope: `pooled` (one codebook for all layers, as published) or `per_layer`.
        patterns: fit to at most this many, over all layers: evenly spaced tokens, the same for each layer.
        steps: the largest number of centroid updates.
        seed: of the random choices.
        groups: a product codebook: equal groups of neighbouring neurons, each with a codebook of its own.
        options: fields of the algorithm's class beyond `steps` and `seed`; and `validation`, the share of the
            tokens, the last ones of the text, that are held out of the fitting and say when to end it; and
            `replace_below`, what `replace_rare` takes.
        device: where to compute; the codebook comes back on the CPU.

    Raises:
        ValueError: unknown algorithm, scope or projection; groups that do not divide the width; a sparsity
            that leaves no neuron; more clusters than patterns; fewer patterns than processes, or an algorithm
            that several cannot share; a damaged shard. One line each.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope: {scope!r} is unknown (allowed: {', '.join(SCOPES)})")
    if projection not in store.widths:
        raise ValueError(f"projection: {projection!r} has no patterns (known: {', '.join(store.widths)})")
    width, layers = store.widths[projection], list(range(store.layers))
    if width % groups:
        raise ValueError(f"groups: {groups} do not divide the {width} neurons of {projection}")
    sparsities = [centroid_sparsity] * len(layers)
    if isinstance(centroid_sparsity, Sequence):
        mean = sum(centroid_sparsity) / len(layers)
        sparsities = [mean] * len(layers) if scope == "pooled" else list(centroid_sparsity)
    ones = [ones_in_centroid(width // groups, sparsity) for sparsity in sparsities]
    options = dict(options or {})
    replace_below = options.pop("replace_below", 0)
    tokens = store.token_positions(fitting_tokens(store, patterns))
    fitting, validating = divided(tokens, options.pop("validation", 0))
    member = ALGORITHMS[algorithm]
    method = member.load()(steps=steps, seed=seed, **options)
    powers = (method.assign_power, method.update_power) if member.says.get("weighs") else None
    several = processes()[1]
    if several > 1 and (not member.says.get("shared_by_processes") or options.get("balanced")):
        raise ValueError(f"algorithm: {several} processes cannot share {algorithm} with these options")
    together = [layers] if scope == "pooled" else [[layer] for layer in layers]
    if min(len(some) for some in (fitting, validating) if len(some)) * len(together[0]) < several:
        raise ValueError(f"patterns: there are fewer than the {several} processes that fit them")

    def stream(some: list[int], tokens: Tensor, group: int) -> PatternStream:
        return PatternStream(store, projection, some, tokens, (group, groups), powers, device)

    def fitted(some: list[int], group: int) -> tuple[Tensor, list[int], dict[str, Tensor]]:
        streams = {"fitting": stream(some, fitting, group)}
        if len(validating):
            streams["held_out"] = stream(some, validating, group)
        size = width // groups
        more: dict[str, Any] = {"held_out": streams["held_out"]} if len(validating) else {}
        if member.says.get("in_chunks"):
            more["chunks"] = Chunks(store, projection, some, fitting, method.rows, (group, groups), device)
            more["sparsity"] = sparsities[some[0]]
        active = ones[some[0]]
        centroids, history = method.fit(streams["fitting"], size, clusters, active, **more)
        if replace_below:
            centroids, covered = replace_rare(
                Stream(streams["fitting"]), centroids, size, active, replace_below
            )
            history = [*history, covered]
        counts = {name: covered_and_active(Stream(of), centroids, size) for name, of in streams.items()}
        return centroids.cpu(), history, counts

    parts = [[fitted(some, group) for group in range(groups)] for some in together]
    counts = {name: sum(count[name] for row in parts for *_, count in row) for name in parts[0][0][2]}
    return Codebook(
        centroids=torch.stack([torch.stack([centroids for centroids, *_ in row]) for row in parts]),
        baseline=single_centroids(
            store, projection, [ones_in_centroid(width, sparsity) for sparsity in sparsities], fitting
        ),
        width=width,
        objective=[[history for _, history, _ in row] for row in parts],
        assign_power=powers[0] if powers else 0,
        scales=store.magnitude_scales(projection) if powers else None,
        factors=store.factors(projection) if powers else None,
        recall={name: int(covered) / max(1, int(active)) for name, (covered, active) in counts.items()},
    )


def divided(tokens: Tensor, part: float) -> tuple[Tensor, Tensor]:
    """Return the tokens to fit on and the last `part` of them, held out.

    Raises ValueError when one of them is left without tokens.
    """
    held_out = round(part * len(tokens))
    if part and not 0 < held_out < len(tokens):
        raise ValueError(f"validation: {part} of {len(tokens)} tokens leaves none to fit on or none held out")
    return tokens[: len(tokens) - held_out], tokens[len(tokens) - held_out :]


def fitting_tokens(store: PatternStore, patterns: int) -> int:
    """Return how many tokens give at most `patterns` patterns over all layers, but at least one token."""
    return max(1, min(store.tokens, patterns // store.layers))


def single_centroids(
    store: PatternStore, projection: str, ones: list[int], tokens: int | Tensor | None = None
) -> Tensor:
    """Return the neurons most active in `tokens`, as many as `ones` says for each layer, uint8 (layers, B).

    `tokens` is what PatternStore.blocks takes.
    """
    sums = active_counts(store, projection, tokens)
    return torch.cat([top_entries(row[None], most) for row, most in zip(sums, ones, strict=True)])


def active_counts(store: PatternStore, projection: str, tokens: int | Tensor | None = None) -> Tensor:
    """Return how often each neuron is active in `tokens`, int32 (layers, D)."""
    sums = no_sums(store.layers, store.widths[projection], CPU)
    count = len(tokens) if isinstance(tokens, Tensor) else len(store.token_positions(tokens))
    for block, layer in store.blocks(projection, tokens=tokens, span=share(count * store.layers)):
        add_to_sums(sums, block, torch.full((len(block),), layer))
    return summed(sums)


def _parts(block: Tensor | Block) -> tuple[Tensor, ...]:
    return block if isinstance(block, Block) else (block,)


def _moved(block: Tensor | Block, device: torch.device) -> Tensor | Block:
    moved = {id(part): part.to(device) for part in _parts(block)}
    return Block(*(moved[id(part)] for part in block)) if isinstance(block, Block) else moved[id(block)]

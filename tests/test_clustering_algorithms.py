"""The registered algorithms: what all of them promise, and what some are beside it."""

import os
import random
import subprocess
import sys

import pytest
import torch
from actsparse.codebooks import ALGORITHMS
from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.as_published import AsPublished, assign_in_order, first_centroids
from actsparse.codebooks.assign import assign
from actsparse.codebooks.chunks import Chunk
from actsparse.codebooks.coverage import Coverage
from actsparse.codebooks.packing import count_active, pack, unpack
from actsparse.codebooks.penalised_as_published import PenalisedAsPublished
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.spherical import Spherical
from made_up_patterns import structured_masks


def test_the_registry_resolves_without_torch():
    code = "import sys, actsparse.codebooks as c; assert 'torch' not in sys.modules; print(*c.ALGORITHMS)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert printed.split() == list(ALGORITHMS)
    assert ALGORITHMS["coverage"].load() is Coverage


SIMPLE = [name for name in ALGORITHMS if name not in ALGORITHMS.that_say("weighs")]


@pytest.mark.parametrize("name", SIMPLE)
def test_every_algorithm_finds_separate_clusters(name):
    if name == "faiss":
        pytest.importorskip("faiss")
    prototypes = torch.zeros(4, 80, dtype=torch.bool)
    for k in range(4):
        prototypes[k, 20 * k : 20 * k + 20] = True
    masks = prototypes[torch.arange(400) % 4]
    fitted = [ALGORITHMS[name].load()(steps=5, seed=seed).fit([pack(masks)], 80, 4, 20) for seed in range(6)]
    best, objective = max(fitted, key=lambda found: found[1][-1])
    assert best.shape == (4, 10) and count_active(best).le(20).all()
    if name not in ("coverage", "mini_batch"):  # random seeds may fall together
        return
    assert objective[-1] >= masks.sum() * 3 / 4


@pytest.mark.parametrize("name", SIMPLE)
def test_every_algorithm_streams_and_repeats(name):
    if name == "faiss":
        pytest.importorskip("faiss")
    patterns = pack(structured_masks(500, 90, 5))
    method = ALGORITHMS[name].load()(steps=3, seed=7)
    ones = 60
    first, objective = method.fit([patterns], 90, 8, ones)
    again, _ = method.fit([patterns], 90, 8, ones)
    assert torch.equal(first, again) and objective
    if name not in ("as_published", "mini_batch"):  # these depend on what comes together
        assert torch.equal(method.fit(list(patterns.split(123)), 90, 8, ones)[0], first)
    if not name.endswith("as_published"):
        assert count_active(first).eq(ones).all()
    with pytest.raises(ValueError, match="clusters: 501 is more than the 500 patterns"):
        method.fit([patterns], 90, 501, ones)


BASELINES = ["as_published", "binary_kmeans", "penalised", "kmeans", "mini_batch_kmeans", "faiss"]


@pytest.mark.parametrize("baseline", BASELINES)
def test_coverage_covers_more_of_held_out_patterns_than(baseline):
    if baseline == "faiss":
        pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(4000, 8, generator=generator), torch.randn(8, 120, generator=generator)
    patterns = pack((hidden @ weight).abs() > 1.5)  # as activations are: correlated, but not in clumps
    fitting, held_out = patterns.split(2000)

    def covered(name):
        centroids, _ = ALGORITHMS[name].load()(steps=20, seed=1).fit([fitting], 120, 32, 84)
        return [int(assign(some, centroids, 120)[1].sum()) for some in (fitting, held_out)]

    for ours, theirs in zip(covered("coverage"), covered(baseline), strict=True):
        assert ours > theirs


def test_spherical_is_the_loop_over_cosines_of_rounded_means():
    masks = structured_masks(300, 90, 4, kinds=12)
    whole = masks.double()
    average = 8 * masks.sum(0) // 300
    means = unpack(choose_seeds(Stream([pack(masks)]), 90, 6, "random", 3), 90, torch.float64) + average
    for _ in range(4):
        directions = means / means.norm(dim=1, keepdim=True)
        nearest = (whole @ (directions * (255 / directions.max())).round().T).argmax(1)
        means = torch.stack([whole[nearest == k].sum(0) for k in range(6)]) + average
    expected = torch.zeros(6, 90, dtype=torch.bool)
    expected.scatter_(1, means.argsort(dim=1, descending=True, stable=True)[:, :60], True)
    blocks = pack(masks).split(70)
    assert torch.equal(Spherical(steps=4, seed=3).fit(blocks, 90, 6, 60)[0], pack(expected))


def test_spherical_covers_more_of_new_patterns_where_each_centroid_has_few():
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(2500, 20, generator=generator), torch.randn(20, 120, generator=generator)
    activations = (hidden @ weight + 3 * torch.randn(120, generator=generator)).abs()
    fitting, held_out = pack(activations > activations.median()).split([500, 2000])

    def covered(name):
        centroids, _ = ALGORITHMS[name].load()(steps=10, seed=1).fit([fitting], 120, 64, 84)
        return int(assign(held_out, centroids, 120)[1].sum())

    assert covered("spherical") > max(covered("coverage"), covered("kmeans"), covered("binary_kmeans"))


def naive_published(chunks, clusters, seed, sparsity, passes, active=None, values=None):
    """The artifact's definition written out in float64: one pattern, one centroid after the other."""
    width, rows = chunks[0].shape[1], torch.cat(chunks)
    active, values = active or chunks, values or chunks
    chunk_of = torch.cat([torch.full((len(chunk),), c) for c, chunk in enumerate(chunks)])
    centroids = []
    for position in sorted(random.Random(seed).sample(range(len(rows)), clusters)):
        for other in range(position, position + 101):
            if chunk_of[other] == chunk_of[position] and (rows[other] == 0).sum() >= 0.4 * width:
                centroids.append(rows[other].double())
                break
    centroids, capacity = torch.stack(centroids), len(chunks[0]) // clusters
    before = None
    for iteration in range(1, passes + 1):
        chosen = []
        for batch, (chunk, value) in enumerate(zip(active, values, strict=True), 1):
            waiting, updated = list(range(len(chunk))), []
            for centroid in centroids:
                left_out = [int((chunk[row].bool() & ~centroid.bool()).sum()) for row in waiting]
                order = sorted(range(len(waiting)), key=left_out.__getitem__)
                members = [waiting[place] for place in order[:capacity]]
                waiting = [waiting[place] for place in order[capacity:]]
                if members:
                    history, mean = iteration * batch * capacity, value[members].double().mean(0)
                    blend = (centroid * history + mean * capacity) / (history + capacity)
                    centroid = (blend > blend.quantile(sparsity)).double()
                updated.append(centroid)
                chosen.append(set(members))
            centroids = torch.stack(updated)
        if chosen == before:
            break
        before = chosen
    return centroids.bool()


def test_as_published_is_its_definition_and_freezes():
    masks = structured_masks(400, 64, 2)
    masks[::7] = True  # too busy to start from
    chunks, fitting = [*masks.split(160)], AsPublished(steps=3, seed=3)
    packed = [pack(chunk) for chunk in chunks]
    as_chunks = [Chunk(some, some) for some in packed]
    found, _ = fitting.fit(packed, 64, 10, 45, sparsity=0.3)
    assert torch.equal(unpack(found, 64), naive_published(chunks, 10, 3, 0.3, 3))
    assert torch.equal(fitting.fit([pack(masks)], 64, 10, 45, chunks=as_chunks, sparsity=0.3)[0], found)
    late = [AsPublished(steps=n, seed=3).fit(packed, 64, 10, 45)[0] for n in (12, 30)]
    assert torch.equal(*late)


def test_magnitudes_and_raw_outputs_are_averaged_as_published():
    outputs = torch.randn(120, 40, generator=torch.Generator().manual_seed(6)) + structured_masks(120, 40, 2)
    masks = outputs.abs() >= outputs.abs().median()
    parts, values = [*masks.split(60)], [*outputs.split(60)]
    packed = [pack(some) for some in parts]
    for active, averaged in (
        (parts, [some.abs() * mask for some, mask in zip(values, parts, strict=True)]),
        ([some > 0 for some in values], values),
    ):
        chunks = [Chunk(p, pack(a), v) for p, a, v in zip(packed, active, averaged, strict=True)]
        found, _ = AsPublished(steps=2, seed=3).fit(packed, 40, 6, 28, chunks=chunks, sparsity=0.3)
        assert torch.equal(unpack(found, 40), naive_published(parts, 6, 3, 0.3, 2, active, averaged))


def test_the_quietest_patterns_go_to_the_first_centroid_as_published():
    masks = torch.zeros(4, 8, dtype=torch.bool)
    masks[0, :4] = masks[1, :4] = True  # just the first centroid
    masks[2, 7] = masks[3, 6] = True  # not a neuron of it, but only one left out
    masks[0, 4:6] = masks[1, 4:6] = True  # two left out
    centroids = torch.zeros(2, 8)
    centroids[0, :4] = centroids[1, 4:] = 1
    assert assign_in_order(pack(masks), centroids, 8, 2).tolist() == [1, 1, 0, 0]


def test_seeds_as_published_are_sparse_or_the_next_that_are():
    masks = torch.ones(300, 10, dtype=torch.bool)
    masks[5, :4] = masks[250, :4] = False  # sparse enough, at exactly 40 %
    with pytest.raises(ValueError, match=r"^clusters: \d+ of 20 find a pattern of 0\.4 sparsity"):
        first_centroids([Chunk(pack(masks), pack(masks))], 10, 20, 0)
    masks[::20, :5] = masks[124, :5] = masks[249, :5] = False
    drawn = sorted(random.Random(1).sample(range(250), 5))
    sparse = [next(row for row in range(position, 300) if masks[row].sum() <= 6) for position in drawn]
    chunk = pack(masks)[:250]
    found = first_centroids([Chunk(some, some) for some in chunk.split(125)], 10, 5, 1)
    assert [torch.equal(row, chunk[place]) for row, place in zip(found, sparse, strict=True)] == [True] * 5


def test_penalised_as_published_is_its_definition():
    rows, published = structured_masks(300, 40, 4).double(), PenalisedAsPublished(steps=4, seed=5)
    centroids = rows[torch.randperm(300, generator=torch.Generator().manual_seed(5))[:8]].clone()
    for _ in range(4):
        lost = (rows[:, None] > centroids).double().sum(2)
        needless = (rows[:, None] < centroids).double().sum(2)
        nearest = (lost + (1 + 2) * needless).argmin(1)
        for k in nearest.unique():
            centroids[k] = rows[nearest == k].mean(0).round()
    found, _ = published.fit([pack(rows.bool())], 40, 8, 20)
    assert torch.equal(unpack(found, 40), centroids.bool())

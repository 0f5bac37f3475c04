"""The registered algorithms: what all of them promise, and what some are beside it."""

import os
import subprocess
import sys

import pytest
import torch
from actsparse.codebooks import ALGORITHMS
from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.as_published import AsPublished
from actsparse.codebooks.assign import assign
from actsparse.codebooks.coverage import Coverage
from actsparse.codebooks.packing import count_active, pack, unpack
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
    if name != "as_published":
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


def naive_published_step(chunk, centroids, iteration, sparsity):
    """The artifact's loop as it is written: one centroid after the other."""
    capacity = len(chunk) // len(centroids)
    taken, updated = torch.zeros(len(chunk), dtype=torch.bool), []
    for centroid in centroids:
        overlaps = (chunk @ centroid).masked_fill_(taken, -torch.inf)
        members = overlaps.topk(capacity).indices
        taken[members] = True
        blend = centroid * (iteration * capacity) + chunk[members].sum(0)
        updated.append((blend > blend.quantile(sparsity)).float())
    return torch.stack(updated)


def test_as_published_is_the_loop_and_freezes():
    masks = structured_masks(400, 64, 2)
    chunk, ones = masks.float(), 45
    seeds = AsPublished(steps=0, seed=3).fit([pack(masks)], 64, 10, ones)[0]
    expected = unpack(seeds, 64, torch.float32)
    for iteration in (1, 2):
        expected = naive_published_step(chunk, expected, iteration, 1 - ones / 64)
    found, _ = AsPublished(steps=2, seed=3).fit([pack(masks)], 64, 10, ones)
    assert torch.equal(unpack(found, 64, torch.float32), expected)
    late = [AsPublished(steps=n, seed=3).fit([pack(masks)], 64, 10, ones)[0] for n in (8, 20)]
    assert torch.equal(*late)

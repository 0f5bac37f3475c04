"""The coverage alternation: exact, never worse from step to step, the same for any blocks and threads."""

import numpy as np
import pytest
import torch
from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.coverage import Coverage
from actsparse.codebooks.packing import count_active, pack, unpack
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.spherical import Spherical
from hypothesis import given
from hypothesis import strategies as st
from made_up_patterns import problems, random_masks, structured_masks


def naive_step(masks, centroids, ones):
    """Return the objective and the next centroids of non-empty clusters, by the definition."""
    best = [max(range(len(centroids)), key=lambda k: (int((m & centroids[k]).sum()), -k)) for m in masks]
    objective = sum(int((m & centroids[k]).sum()) for m, k in zip(masks, best, strict=True))
    following = {}
    for k in set(best):
        sums = sum(m.astype(int) for m, a in zip(masks, best, strict=True) if a == k)
        top = sorted(range(masks.shape[1]), key=lambda i: (-sums[i], i))[:ones]
        following[k] = np.isin(np.arange(masks.shape[1]), top)
    return objective, following


@given(st.integers(0, 99), st.integers(1, 12), st.sampled_from([random_masks, structured_masks]))
def test_one_step_is_the_formula(seed, clusters, make):
    masks = make(40, 35, seed)
    patterns = [pack(masks)]
    seeded, _ = Coverage(steps=0, seed=seed).fit(patterns, 35, clusters, 22)
    stepped, objective = Coverage(steps=1, seed=seed).fit(patterns, 35, clusters, 22)
    expected, following = naive_step(masks.numpy(), unpack(seeded, 35).numpy(), 22)
    assert objective[0] == expected
    for k, centroid in following.items():
        assert np.array_equal(unpack(stepped[k], 35).numpy(), centroid)


@given(problems, st.sampled_from([random_masks, structured_masks]), st.sampled_from([0.2, 0.5, 0.8]))
def test_objective_never_falls_and_cardinality_is_exact(problem, make, sparsity):
    width, rows = problem["width"], problem["rows"]
    clusters = min(problem["clusters"], rows)
    masks = make(rows, width, problem["seed"])
    ones = max(1, round((1 - sparsity) * width))
    centroids, objective = Coverage(steps=8, seed=problem["seed"]).fit([pack(masks)], width, clusters, ones)
    assert centroids.shape == (clusters, (width + 7) // 8)
    assert count_active(centroids).eq(ones).all()
    assert objective == sorted(objective)
    assert len(objective) <= 9
    covered = (masks.int() @ unpack(centroids, width, torch.int32).T).amax(1).sum()
    assert objective[-1] == covered


def test_empty_clusters_are_reseeded_from_the_worst_covered():
    masks = torch.zeros(40, 64, dtype=torch.bool)
    masks[:38, :8] = True
    masks[38, 20:30] = True
    masks[39, 40:60] = True
    centroids, objective = Coverage(steps=5, seed=0).fit([pack(masks)], 64, 3, 20)
    assert objective[-1] == masks.sum()
    assert len({bytes(row.numpy()) for row in centroids}) == 3


def test_more_clusters_than_patterns_is_one_line():
    with pytest.raises(ValueError, match=r"^clusters: 5 is more than the 4 patterns to fit$"):
        Coverage(steps=1, seed=0).fit([pack(random_masks(4, 9, 0))], 9, 5, 3)


def test_threads_and_blocks_do_not_matter():
    patterns = pack(structured_masks(1000, 200, 1, kinds=30))
    results = []
    for threads, blocks in [
        (1, [patterns]),
        (2, [patterns]),
        (2, patterns.split(77)),
        (1, patterns.split(1)),
    ]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            results.append(Coverage(steps=6, seed=3).fit(list(blocks), 200, 20, 90))
        finally:
            torch.set_num_threads(before)
    for centroids, objective in results[1:]:
        assert torch.equal(centroids, results[0][0])
        assert objective == results[0][1]


def test_without_numba_the_codebook_is_the_same(monkeypatch):
    patterns = [pack(structured_masks(300, 100, 2))]
    compiled = Coverage(steps=4, seed=0).fit(patterns, 100, 9, 60)
    for module in ("assign", "update"):
        monkeypatch.setattr(f"actsparse.codebooks.{module}.kernels", lambda: None)
    plain = Coverage(steps=4, seed=0).fit(patterns, 100, 9, 60)
    assert torch.equal(plain[0], compiled[0])
    assert plain[1] == compiled[1]


def test_a_warm_up_is_where_spherical_means_end():
    patterns = [pack(structured_masks(300, 100, 2))]
    means, _ = Spherical(steps=3, seed=4, update_power=0, assign_power=0).fit(patterns, 100, 9, 60)
    started, _ = Coverage(steps=0, seed=4, warm_up=3).fit(patterns, 100, 9, 60)
    assert torch.equal(started, means)
    improved, objective = Coverage(steps=9, seed=4, warm_up=3).fit(patterns, 100, 9, 60)
    assert not torch.equal(improved, means)
    assert objective == sorted(objective)


def test_seeds_are_patterns_completed_with_frequent_neurons():
    masks = torch.zeros(4, 10, dtype=torch.bool)
    masks[:, 0] = masks[:3, 7] = masks[:2, 3] = True
    masks[3, 1:10] = True
    centroids, _ = Coverage(steps=0, seed=0).fit([pack(masks)], 10, 4, 4)
    expected = {(0, 1, 3, 7), (0, 3, 7, 1)}
    found = {tuple(row.nonzero().flatten().tolist()) for row in unpack(centroids, 10)}
    assert found == {tuple(sorted(x)) for x in expected}


@pytest.mark.parametrize("seeding", ["random", "kmeans++", "stratified"])
def test_seeds_are_different_patterns_of_the_stream(seeding):
    masks = structured_masks(300, 50, 0)
    stream = Stream(pack(masks).split(70))
    seeds = choose_seeds(stream, 50, 20, seeding, seed=1)
    rows = {bytes(row.numpy()) for row in pack(masks)}
    assert len({bytes(row.numpy()) for row in seeds}) == 20
    assert all(bytes(row.numpy()) in rows for row in seeds)
    assert torch.equal(seeds, choose_seeds(Stream([pack(masks)]), 50, 20, seeding, seed=1))
    assert not torch.equal(seeds, choose_seeds(stream, 50, 20, seeding, seed=2))


def test_stratified_seeds_span_the_busy_and_the_quiet():
    masks = torch.arange(64)[None] < torch.arange(64)[:, None]
    seeds = choose_seeds(Stream([pack(masks)]), 64, 8, "stratified", seed=0)
    assert (count_active(seeds).sort().values // 8).tolist() == list(range(8))


def test_seeds_when_all_patterns_are_the_same():
    patterns = pack(torch.ones(9, 12, dtype=torch.bool))
    assert choose_seeds(Stream([patterns]), 12, 4, "kmeans++", 0).shape == (4, 2)
    with pytest.raises(ValueError, match=r"seeding: 'best' is unknown \(allowed: random"):
        choose_seeds(Stream([patterns]), 12, 4, "best", 0)

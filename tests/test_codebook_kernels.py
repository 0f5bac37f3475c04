"""Packed kernels: exactly what the plain paths and the definitions give."""

import numpy as np
import pytest
import torch
from actsparse.codebooks.active import active_patterns, sum_of
from actsparse.codebooks.assign import assign, assign_plain, centroid_masks
from actsparse.codebooks.balance import assign_balanced
from actsparse.codebooks.packing import pack, pack_planes, unpack, unpack_planes
from actsparse.codebooks.update import add_to_sums, add_to_sums_plain, top_entries, top_entries_plain
from actsparse.codebooks.weights import (
    ASSIGN_BITS,
    ASSIGN_LIMIT,
    UPDATE_BITS,
    UPDATE_LIMIT,
    assign_weights,
    update_weights,
    weights_plain,
)
from hypothesis import given
from hypothesis import strategies as st
from made_up_patterns import problems, random_masks


@given(problems)
def test_fast_paths_equal_plain_paths(problem):
    width, clusters = problem["width"], problem["clusters"]
    patterns = pack(random_masks(problem["rows"], width, problem["seed"], problem["density"]))
    centroids = pack(random_masks(clusters, width, problem["seed"] + 1))
    index, overlap = assign(patterns, centroids, width)
    plain_index, plain_overlap = assign_plain(patterns, centroids, width)
    assert torch.equal(index, plain_index)
    assert torch.equal(overlap, plain_overlap)
    sums = torch.full((clusters, width), 3, dtype=torch.int32)
    plain_sums = sums.clone()
    add_to_sums(sums, patterns, index)
    add_to_sums_plain(plain_sums, patterns, index)
    assert torch.equal(sums, plain_sums)
    for ones in {0, 1, width // 2, width}:
        assert torch.equal(top_entries(sums, ones), top_entries_plain(sums, ones))


@given(problems, st.integers(1, 9))
def test_bit_planes_are_integer_weights(problem, bits):
    width, rows, clusters = problem["width"], problem["rows"], problem["clusters"]
    weights = torch.randint(
        2**bits, (rows, width), generator=torch.Generator().manual_seed(problem["seed"]), dtype=torch.int64
    )
    planes = pack_planes(weights, bits)
    assert planes.shape == (rows, bits, (width + 7) // 8)
    assert torch.equal(unpack_planes(planes, width, torch.int64), weights)
    masks = random_masks(clusters, width, problem["seed"] + 1)
    best = (weights @ masks.long().T).max(1).values
    for method in (assign, assign_plain):
        index, overlap = method(planes, pack(masks), width)
        assert torch.equal(overlap, best)
        assert torch.equal(index, assign_plain(planes, pack(masks), width)[0])
    expected = torch.zeros(clusters, width, dtype=torch.int64).index_add_(0, index, weights)
    for method in (add_to_sums, add_to_sums_plain):
        sums = torch.zeros(clusters, width, dtype=torch.int32)
        method(sums, planes, index)
        assert torch.equal(sums.long(), expected)


@given(st.integers(1, 9), st.integers(1, 200), st.sampled_from([1, 2]), st.integers(0, 99))
def test_compiled_weights_equal_plain_ones(rows, width, power, seed):
    generator = torch.Generator().manual_seed(seed)
    magnitudes = torch.randn(rows, width, generator=generator).abs() ** 5
    magnitudes[torch.rand(rows, width, generator=generator) < 0.3] = 0
    for dtype in (torch.float32, torch.bfloat16):
        typed = magnitudes.to(dtype)
        for made, bits, limit in (
            (assign_weights, ASSIGN_BITS, ASSIGN_LIMIT),
            (update_weights, UPDATE_BITS, UPDATE_LIMIT),
        ):
            assert torch.equal(made(typed, 0.3, power), weights_plain(typed, 0.3, power, bits, limit))


@given(st.integers(1, 70), st.integers(0, 99), st.sampled_from([3, 1000, 2**31 - 1]))
def test_top_entries_of_any_numbers(width, seed, largest):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-largest - 1, largest, (3, width), generator=generator).to(torch.int32)
    order = np.argsort(-scores.numpy().astype(np.int64), axis=1, kind="stable")
    for ones in {0, 1, width // 3, width}:
        expected = np.zeros((3, width), bool)
        np.put_along_axis(expected, order[:, :ones], True, axis=1)
        assert np.array_equal(unpack(top_entries(scores, ones), width).numpy(), expected)
        assert torch.equal(top_entries(scores.double(), ones), top_entries(scores, ones))


@pytest.mark.parametrize(("rows", "width", "clusters"), [(3000, 1536, 100), (700, 5000, 33), (5, 20000, 3)])
def test_fast_assignment_over_several_cache_blocks(rows, width, clusters):
    patterns, centroids = pack(random_masks(rows, width, 0)), pack(random_masks(clusters, width, 1, 0.7))
    for fast, plain in zip(
        assign(patterns, centroids, width), assign_plain(patterns, centroids, width), strict=True
    ):
        assert torch.equal(fast, plain)


def test_assignment_edges():
    pattern = pack(torch.tensor([[True, False, True]]))
    ties = pack(torch.tensor([[False, False, True], [True, True, False], [False, True, True]]))
    assert [x.tolist() for x in assign(pattern, ties, 3)] == [[0], [1]]
    assert [x.tolist() for x in assign(pattern[:0], ties, 3)] == [[], []]
    with pytest.raises(ValueError, match="no centroids"):
        assign(pattern, ties[:0], 3)
    with pytest.raises(ValueError, match="1 and 1 bytes a row do not fit 9 neurons"):
        assign(pattern, ties, 9)
    masks = centroid_masks(torch.tensor([2, 0]), ties, 3)
    assert masks.tolist() == [[False, True, True], [False, False, True]]


def test_sums_of_large_clusters():
    patterns = pack(torch.ones(1000, 70, dtype=torch.bool))
    sums = torch.zeros(2, 70, dtype=torch.int32)
    add_to_sums(sums, patterns, torch.tensor([1] * 1000))
    assert sums[0].eq(0).all() and sums[1].eq(1000).all()


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 99))
def test_balanced_assignment_is_stable_and_fits(rows, clusters, seed):
    masks, centres = random_masks(rows, 40, seed), random_masks(clusters, 40, seed + 1)
    index, overlap = assign_balanced(pack(masks), pack(centres), 40)
    capacity = -(-rows // clusters)
    overlaps = masks.int() @ centres.int().T
    assert index.bincount().max() <= capacity
    assert torch.equal(overlap, overlaps.gather(1, index[:, None])[:, 0].long())
    for row in range(rows):
        for better in (overlaps[row] > overlap[row]).nonzero().flatten():
            members = overlap[index == better]
            assert len(members) == capacity and members.min() >= overlaps[row, better]


@given(st.integers(1, 9), st.integers(1, 200), st.sampled_from([0.0, 0.7]), st.integers(0, 99))
def test_active_patterns_and_sums_of_some_scores(rows, width, threshold, seed):
    scores = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).abs()
    scores[0, 0] = threshold
    for typed in (scores, scores.bfloat16(), scores.double()):
        patterns = active_patterns(typed, threshold)
        assert torch.equal(patterns, pack(typed.float() >= threshold))
        expected = torch.where(unpack(patterns, width), typed, 0).double().sum()
        assert torch.allclose(sum_of(typed, patterns), expected, rtol=1e-5)

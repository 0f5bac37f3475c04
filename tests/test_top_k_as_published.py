"""Unstructured sparsity, Amber's quantiles and SparseGPT's blocks as published, against their arithmetic."""

import pytest
import torch
from actsparse.calibration.sparsegpt import prune_weight
from actsparse.kinds.prune_activations import PruneActivations
from actsparse.kinds.prune_weights import PruneWeights
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.patterns.top_k_as_published import TopKAsPublished
from actsparse.methods.scorers.amber import Amber, column_factors
from actsparse.models.sites import find_sites
from tiny_models import load_tiny_model, save_tiny_model

SITE = None  # masks do not look at it


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("sparsity", "width", "kept"), [(0.3, 576, 403), (0.7, 576, 172), (0.5, 9, 4), (0.9, 10, 0)]
)
def test_a_row_keeps_the_whole_part_of_a_floating_point_product(sparsity, width, kept):
    """0.7 of 576 leaves 172.8; 1 - 0.9 is a little less than 0.1."""
    scores = draw(5, width)
    mask = TopKAsPublished(sparsity, "row").mask(scores, SITE)
    for row, chosen in zip(scores.tolist(), mask, strict=True):
        best = sorted(range(width), key=lambda i: -row[i])[:kept]
        assert sorted(best) == chosen.nonzero().flatten().tolist()


def test_all_tokens_of_a_batch_are_compared():
    scores = draw(2, 5, 16) * torch.tensor([1.0, 2, 3, 4, 5])[:, None]
    mask = TopKAsPublished(0.3, "batch").mask(scores, SITE)
    assert mask.sum() == int(160 * 0.7) == 112
    assert scores[mask].min() > scores[~mask].max()
    later = scores.clone()
    later[:, -1] *= 0  # what follows
    assert (TopKAsPublished(0.3, "batch").mask(later, SITE)[:, 0] != mask[:, 0]).any()


def test_a_matrix_has_one_threshold_and_drops_what_equals_it():
    weight = torch.tensor([[1.0, 5, 3, 3], [2, 3, 8, 7]])  # in order 1 2 3 3 3 5 7 8
    assert TopKAsPublished(0.25, "matrix").mask(weight, SITE).tolist() == [
        [False, True, False, False],
        [False, False, True, True],
    ]  # number 2, counted from 0, is 3
    assert TopKAsPublished(0.0, "matrix").mask(weight, SITE).sum() == 7


@pytest.mark.parametrize(
    ("params", "over"),
    [
        ({"pattern": 0.5}, "row"),
        ({"pattern": 0.5, "scorer": "amber"}, "batch"),
        ({"pattern": 0.5, "scorer": "clact"}, "batch"),
    ],
)
def test_inputs_as_published(params, over):
    pattern = PruneActivations.of({**params, "as_published": True}).build().pattern
    assert pattern == TopKAsPublished(0.5, over)
    assert PruneActivations.of({"pattern": 0.5}).build().pattern == TopK(0.5)


def test_weights_as_published():
    assert PruneWeights.of({"pattern": 0.5, "as_published": True}).build().pattern == TopKAsPublished(
        0.5, "matrix"
    )
    assert PruneWeights.of({"pattern": 0.5}).build().pattern == TopK(0.5)
    assert PruneWeights.of({"pattern": "2:4", "as_published": True}).build().pattern.m == 4


def test_sparsegpt_drops_the_first_weight_that_it_would_keep():
    """With uncorrelated inputs costs are squares: one block of 2 x 8 weights, half of which would go."""
    weight = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15, 16]])
    hessian = torch.eye(8)
    plain = prune_weight(weight, hessian, TopK(0.5))
    published = prune_weight(weight, hessian, TopKAsPublished(0.5, "matrix"))
    assert plain.nonzero().shape[0] == 8 and published.nonzero().shape[0] == 7
    assert published[1, 0] == 0 and plain[1, 0] == 9


def test_amber_draws_entries_of_large_weights_alone(tmp_path):
    model = load_tiny_model(save_tiny_model("llama", tmp_path))
    (site,) = find_sites(model, ["up_proj"], "input", layers="1")
    x = torch.randn(3, site.width)
    small = Amber(as_published=True).score(x, site)
    assert torch.equal(small, Amber().score(x, site))
    weight = torch.randn(400, 300, generator=torch.Generator().manual_seed(1)) ** 3
    site.module.weight.data = weight
    first, again, other = (Amber(as_published=True, seed=seed).factors_of(site) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    whole = column_factors(weight)
    assert not torch.equal(first, whole)
    torch.testing.assert_close(first, whole, rtol=0.02, atol=0)


def test_ambers_factors_are_those_of_what_lies_between_the_drawn_quantiles():
    weight = draw(40, 30, seed=2).float()
    drawn = weight.flatten()[::7]
    low, high = (drawn.double().quantile(q) for q in (0.005, 0.995))
    inner = weight.double()[(weight >= low) & (weight <= high)]
    norms = ((weight.double() - inner.mean()) / inner.std(correction=0)).norm(dim=0)
    torch.testing.assert_close(column_factors(weight, drawn).double(), norms / norms.min(), rtol=1e-5, atol=0)

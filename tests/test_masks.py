"""Masks of N:M and top-k patterns, and their fast paths, against a stable sort: the same bits."""

import pytest
import torch
from actsparse.methods.patterns.n_of_m import NOfM, n_of_m_mask
from actsparse.methods.patterns.top_k import TopK, top_k_mask
from naive import best

INPUTS = {
    "random": lambda: torch.randn(2, 3, 48),
    "one token": lambda: torch.randn(48),
    "no tokens": lambda: torch.randn(2, 0, 48),
    "many": lambda: torch.randn(5, 7, 11, 48),
    "large": lambda: torch.randn(3000, 48),
    "not contiguous": lambda: torch.randn(48, 6).t(),
    "constant": lambda: torch.full((4, 48), 2.0),
    "zero": lambda: torch.zeros(4, 48),
    "signed zeros": lambda: torch.zeros(4, 48) * torch.randn(4, 48),
    "negative": lambda: -torch.rand(4, 48),
    "ties": lambda: torch.randint(-2, 3, (40, 48)).float(),
    "huge": lambda: torch.randn(4, 48) * 1e37,
    "subnormal": lambda: torch.randn(4, 48) * 1e-42,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", INPUTS)
@torch.inference_mode()
def test_masks_and_fast_paths_are_exact(kind, dtype):
    torch.manual_seed(0)
    x = INPUTS[kind]().to(dtype)
    if not x.isfinite().all():
        return
    ranked = {"magnitude": None, "signed": torch.randn_like(x), "tied": (torch.randn_like(x)).round() * -0.0}
    for scores in ranked.values():
        by = x.abs() if scores is None else scores
        for n, m in ((2, 4), (1, 4), (8, 16), (16, 32), (2, 3), (5, 12), (47, 48), (4, 4)):
            if 48 % m:
                x_m, by_m = (torch.cat([part, part], -1)[..., :64] for part in (x, by))
                scores_m = None if scores is None else by_m
            else:
                x_m, by_m, scores_m = x, by, scores
            expected = best(by_m.reshape(-1, m), n).reshape(by_m.shape)
            assert torch.equal(n_of_m_mask(by_m, n, m), expected)
            check_fast(NOfM(n, m), x_m, scores_m, expected)
        for sparsity in (0, 0.3, 0.5, 0.99):
            pattern = TopK(sparsity)
            expected = best(by, pattern.kept(48))
            assert torch.equal(top_k_mask(by, pattern.kept(48)), expected)
            check_fast(pattern, x, scores, expected)


def check_fast(pattern, x, scores, mask):
    fast = pattern.prune(x, scores)
    if x.dtype == torch.float64:
        assert fast is None
        return
    pruned, kept, finite = fast
    integer = torch.int32 if x.dtype == torch.float32 else torch.int16
    assert torch.equal(pruned.view(integer), torch.where(mask, x, 0).contiguous().view(integer))
    assert (kept, finite) == (int(mask.sum()), True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", [NOfM(2, 4), NOfM(16, 32), TopK(0.3)])
def test_16_bits_ranked_by_float32_scores(pattern, dtype):
    torch.manual_seed(0)
    x = (torch.randn(70, 96) * 10.0 ** torch.randint(-8, 5, (70, 96))).to(dtype)
    scores = torch.randn(70, 96)
    check_fast(pattern, x, scores, pattern.mask(scores, None))
    x[3, 4] = float("nan")
    assert not pattern.prune(x, scores)[2]

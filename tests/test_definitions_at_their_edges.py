"""Scorers, mitigations, patterns and codebook sums at the edges of their definitions, written out here."""

from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
import torch
from actsparse.codebooks import assign, update
from actsparse.codebooks.packing import pack
from actsparse.evaluation.perplexity import measure_perplexity
from actsparse.methods.mitigations.learned_shift import LearnedShift
from actsparse.methods.mitigations.scale_shift import ScaleShift
from actsparse.methods.mitigations.shift import Shift
from actsparse.methods.mitigations.smoothing import Smoothing
from actsparse.methods.mitigations.static_shift import StaticShift
from actsparse.methods.mitigations.stored_weights import StoredWeights
from actsparse.methods.mitigations.variance import Variance
from actsparse.methods.patterns.notation import parse_pattern
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.patterns.top_k_table import TopKTable
from actsparse.methods.scorers.amber import column_factors
from actsparse.methods.scorers.clact import Clact
from actsparse.methods.scorers.random import Random
from actsparse.methods.scorers.wanda import Wanda

SITE = SimpleNamespace(
    name="model.layers.1.mlp.up_proj",
    module_name="model.layers.1.mlp.up_proj",
    projection="up_proj",
    layer=1,
    rows=None,
    width=4,
)


def table(**tensors):
    return {SITE.module_name: tensors}


class Loud(torch.nn.Module):
    """A model whose logits put `gap` between the next token of a window and all others, or NaN."""

    device = torch.device("cpu")

    def __init__(self, gaps):
        super().__init__()
        self.gaps = iter(gaps)

    def forward(self, input_ids, use_cache):
        logits = torch.zeros(*input_ids.shape, 5)
        logits[0, :-1].scatter_(1, input_ids[0, 1:, None], next(self.gaps))
        return SimpleNamespace(logits=logits)


def test_what_a_perplexity_says_of_its_windows():
    gaps = [0.5, 1.0, 2.5]
    windows = torch.arange(12, dtype=torch.int32).reshape(3, 4) % 5
    means = np.array([np.log(np.exp(gap) + 4) - gap for gap in gaps])
    value = np.exp(means.mean())
    expected = {
        "value": value,
        "stderr": value * means.std(ddof=1) / np.sqrt(3),
        "windows": 3,
        "sequence_length": 4,
        "tokens": 9,
        "nll_per_window": means.tolist(),
    }
    found = measure_perplexity(Loud(gaps), windows)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6), key


def test_a_window_that_is_no_number_is_none_and_the_others_stay():
    found = measure_perplexity(Loud([1.0, float("nan")]), torch.zeros(2, 3, dtype=torch.int32))
    assert found["value"] is None and found["stderr"] is None
    assert found["nll_per_window"] == [pytest.approx(np.log(np.exp(1.0) + 4) - 1.0, rel=1e-6), None]


def test_random_scores_are_the_hash_of_seed_site_and_place():
    def score(place):
        number = place + crc32(b"7 model.layers.1.mlp.up_proj")
        for factor in (0x45D9F3B, 0x2C1B3C6D, 0x45D9F3B):
            number = ((number ^ (number >> 16)) * factor) % 2**32
        return ((number ^ (number >> 16)) >> 8) / 2**24

    expected = torch.tensor([score(place) for place in range(12)]).reshape(3, 4)
    found = Random(seed=7).score(torch.zeros(2, 3, 4), SITE)
    assert torch.equal(found, expected.expand(2, 3, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_smoothing_leaves_channels_without_a_scale(dtype):
    site = SimpleNamespace(**vars(SITE), weight=torch.tensor([[4.0, 0.0, 1.0, -16.0], [2.0, 0.0, 0.5, 1.0]]))
    statistics = table(maximum=torch.tensor([1.0, 3.0, 0.0, 4.0], dtype=torch.float64))
    found = Smoothing(statistics=statistics).scale(torch.zeros(1, 4, dtype=dtype), site)
    assert found.dtype == dtype
    assert found.tolist() == [0.5, 1.0, 1.0, 0.5]


def test_a_token_that_pruning_makes_constant_keeps_its_values():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 2.0]])
    kept = torch.tensor([[0.0, 0.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    factor = np.sqrt(np.var([1, 2, 3, 4], ddof=1) / np.var([0, 0, 3, 4], ddof=1))
    expected = torch.tensor([[0.0, 0.0, 3 * factor, 4 * factor], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float32)
    torch.testing.assert_close(Variance().restore(kept, x, SITE), expected)
    assert Variance().restore(torch.ones(1, 4), x[:1], SITE).tolist() == [[1.0] * 4]


LIKE = torch.ones(2, 4, dtype=torch.bfloat16)
TABLE = table(
    **{name: torch.full((4,), 0.5) for name in ("centre", "eta", "scale", "shift", "weight", "norm")}
)


@pytest.mark.parametrize(
    "result",
    [
        StaticShift(statistics=TABLE).prepare(LIKE, SITE),
        StaticShift(statistics=TABLE).restore(LIKE, LIKE, SITE),
        LearnedShift(parameters=TABLE).prepare(LIKE, SITE),
        LearnedShift(parameters=TABLE).restore(LIKE, LIKE, SITE),
        ScaleShift(parameters=TABLE).correct(LIKE, LIKE, LIKE, SITE),
        StoredWeights(parameters=TABLE).prepare(LIKE, SITE),
        Shift().prepare(LIKE, SITE),
        Variance().restore(LIKE, LIKE, SITE),
    ],
)
def test_what_a_layer_gets_is_of_the_type_that_it_had(result):
    assert result.dtype == torch.bfloat16


def test_columns_of_statistics_stand_for_each_token():
    x = torch.tensor([[1.0, -2.0, 3.0, -4.0]])
    norms = table(norm=torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64))
    assert Wanda(statistics=norms).score(x, SITE).tolist() == [[4.0, 6.0, 6.0, 4.0]]
    assert Clact(statistics=norms).score(x, SITE).dtype == torch.float32


def test_stored_weights_of_a_part_are_its_rows():
    stored = torch.arange(12.0).reshape(3, 4)
    part = SimpleNamespace(**(vars(SITE) | {"rows": slice(1, 3)}))
    assert torch.equal(StoredWeights(parameters=table(weight=stored)).prepare(stored, part), stored[1:])


def test_the_first_batch_of_each_site_is_its_own_as_published():
    shift = LearnedShift(as_published=True)
    other = SimpleNamespace(**(vars(SITE) | {"name": "other"}))
    assert shift.eta(torch.full((1, 2, 4), 3.0), SITE).flatten().tolist() == [3.0, 3.0]
    assert shift.eta(torch.full((1, 2, 4), 5.0), other).flatten().tolist() == [5.0, 5.0]
    later = shift.eta(torch.full((1, 3, 4), 9.0, dtype=torch.bfloat16), SITE)
    assert later.flatten().tolist() == [3.0, 3.0, 0.0] and later.dtype == torch.bfloat16


def test_patterns_as_written():
    assert parse_pattern("8:16") == ("n_of_m", (8, 16))
    assert parse_pattern(0.5) == ("top_k", (0.5,))


def test_a_score_at_the_threshold_stays():
    pattern = Threshold({"up_proj": {"layer_1": 0.5}})
    assert pattern.mask(torch.tensor([0.25, 0.5, 0.75]), SITE).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="up_proj: no threshold for up_proj of layer 1"):
        Threshold({"gate_proj": {"layer_1": 0.5}}).check(SITE)


@pytest.mark.parametrize(("sparsity", "fits"), [(0.0, True), (0.999, True), (1.0, False), (1.5, False)])
def test_a_table_holds_sparsities_below_one(sparsity, fits):
    pattern = TopKTable({"up_proj": {"layer_1": sparsity}})
    if fits:
        return pattern.check(SITE)
    with pytest.raises(ValueError, match=rf"its sparsity in the table is {sparsity}"):
        pattern.check(SITE)


@pytest.mark.parametrize("shape", [(20, 10), (41, 25), (9, 223)])
def test_amber_standardises_by_what_lies_between_its_quantiles(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight[0, 0], weight[1, 1] = 60.0, -50.0
    flat = np.sort(weight.double().numpy().ravel())
    low, high = np.quantile(flat, [0.005, 0.995])
    inner = flat[(flat >= low) & (flat <= high)]
    norms = np.linalg.norm((weight.double().numpy() - inner.mean()) / inner.std(ddof=1), axis=0)
    assert column_factors(weight).numpy() == pytest.approx(norms / norms.min(), rel=1e-6)


def test_blocks_do_not_change_sums_or_assignments(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    bits = torch.rand(37, 24, generator=generator) < 0.4
    centroids = torch.rand(5, 24, generator=generator) < 0.3
    index = torch.randint(0, 5, (37,), generator=generator)
    overlap = bits.double() @ centroids.double().T
    expected = torch.zeros(5, 24, dtype=torch.int32).index_add_(0, index, bits.int())
    for rows in (1, 3, 36, 100):
        monkeypatch.setattr(update, "UNPACKED_BYTES", rows * 4 * 24)
        monkeypatch.setattr(assign, "OVERLAP_BYTES", rows * 4 * 24)
        sums = torch.zeros(5, 24, dtype=torch.int32)
        update.add_to_sums_plain(sums, pack(bits), index)
        assert torch.equal(sums, expected)
        nearest, most = assign.assign_dense(pack(bits), centroids, 24)
        assert torch.equal(most, overlap.max(1).values.long())
        assert torch.equal(overlap.gather(1, nearest[:, None])[:, 0].long(), most)


def test_without_compiled_kernels_sums_and_top_entries_are_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(4)
    bits, index = torch.rand(50, 40, generator=generator) < 0.5, torch.arange(50) % 3
    scores = torch.randint(0, 9, (3, 40), generator=generator, dtype=torch.int32)
    expected = torch.zeros(3, 40, dtype=torch.int32).index_add_(0, index, bits.int())
    ranked = [sorted(range(40), key=lambda i, row=row: (-row[i], i))[:10] for row in scores.tolist()]
    best = pack(torch.tensor([[i in row for i in range(40)] for row in ranked]))
    for compiled in (update.kernels, lambda: None):
        monkeypatch.setattr(update, "kernels", compiled)
        sums = torch.zeros(3, 40, dtype=torch.int32)
        update.add_to_sums(sums, pack(bits), index)
        assert torch.equal(sums, expected)
        assert torch.equal(update.top_entries(scores, 10), best)

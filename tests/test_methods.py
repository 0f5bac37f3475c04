"""Every scorer, pattern and mitigation that go together, on a tiny model, against formulas written out."""

from itertools import product

import pytest
import torch
from actsparse.calibration.statistics import measure_statistics
from actsparse.methods.building import with_options
from actsparse.methods.combinations import made_by, needs_statistics, refusal
from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.mitigations.low_rank import LowRank
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.mitigations.stored_weights import StoredWeights
from actsparse.methods.patterns.full import Full
from actsparse.methods.patterns.n_of_m import NOfM, n_of_m_mask
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.patterns.top_k_table import TopKTable
from actsparse.methods.scorers import SCORERS
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, prune, sparsify
from actsparse.models.sites import find_sites
from actsparse.registry import Family
from naive import best
from tiny_models import CONFIGS, UNGATED, load_tiny_model, save_tiny_model, token_windows
from torch.nn.functional import linear

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PATTERNS = {
    "n_of_m": NOfM(2, 4),
    "top_k": TopK(0.5),
    "top_k_table": TopKTable({word: {f"layer_{i}": 0.5 for i in range(2)} for word in ALL}),
    "threshold": Threshold({word: {f"layer_{i}": 0.3 for i in range(2)} for word in ALL}),
}
IDS = token_windows(2, 9)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_tiny_model(save_tiny_model("qwen2", tmp_path_factory.mktemp("qwen2")))


@pytest.fixture(scope="module")
def options(model):
    """All that scorers and mitigations may ask for; parameters that were not trained but drawn."""
    generator = torch.Generator().manual_seed(1)
    table = {}
    for site in find_sites(model, ALL, "input"):
        sizes = {"eta": site.width, "scale": site.out_features, "shift": site.out_features}
        row = {what: torch.randn(size, generator=generator) / 10 for what, size in sizes.items()}
        table[site.module_name] = {**row, "weight": site.weight * (site.weight > 0)}
    statistics = measure_statistics(model, token_windows(3, 20), ALL)
    return {"statistics": statistics, "parameters": table, "rank": 4, "seed": 3}


def build(word: str, family: Family, options: dict, **more):
    return with_options(family[word].load(), {**options, **more})


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS).logits


COMBINATIONS = [
    combination
    for combination in product(("input", "output", "weight"), SCORERS, PATTERNS, MITIGATIONS)
    if refusal(*combination) is None and combination[1] != "sparsegpt"
]


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize(("side", "scorer", "pattern", "mitigation"), COMBINATIONS)
def test_every_combination_runs_and_is_undone(
    model, options, side, scorer, pattern, mitigation, as_published
):
    untrained = as_published and mitigation == "learned_shift"
    given = {key: value for key, value in options.items() if not (untrained and key == "parameters")}
    projections = ("gate_proj",) if scorer == "cats" else ALL
    scheme = Scheme(
        side,
        projections,
        build(scorer, SCORERS, given, as_published=as_published),
        PATTERNS[pattern],
        build(mitigation, MITIGATIONS, given, as_published=as_published, pattern=PATTERNS[pattern]),
        drops_bias=as_published and side == "input",
    )
    dense = logits(model)
    with sparsify(model, scheme) as applied:
        sparse = logits(model)
    assert sparse.isfinite().all() and not torch.equal(sparse, dense)
    assert applied.not_finite == []
    assert applied.replaced_linear_layers == 2 * len(projections)
    if pattern != "threshold":
        assert applied.realised_sparsity == 0.5
    else:
        assert 0 < applied.realised_sparsity < 1
    assert torch.equal(logits(model), dense)
    with pytest.raises(KeyboardInterrupt), sparsify(model, scheme):
        logits(model)
        raise KeyboardInterrupt
    assert torch.equal(logits(model), dense)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("pattern", [NOfM(2, 4), TopK(0.5), PATTERNS["threshold"]])
def test_nan_and_infinity_are_reported_with_the_site(model, caplog, pattern, value):
    # Layer 1 gets them through the residual stream as well; the first site in the model's order is named.
    (site,) = find_sites(model, ["down_proj"], "input", layers="0")
    bad = site.block.up_proj.weight
    saved = bad[5, 5].item()
    bad.data[5, 5] = value
    with sparsify(model, Scheme("input", ALL, Magnitude(), pattern, NoMitigation())) as applied:
        logits(model)
    bad.data[5, 5] = saved
    assert applied.not_finite[0] == "model.layers.0.mlp.down_proj"
    assert "model.layers.0.mlp.down_proj" in caplog.text


def naive_scores(word, x, weight, statistics):
    x = x.float()
    norms = weight.norm(dim=0)
    if word == "magnitude":
        return x.abs()
    if word == "clact":
        return x.abs() * statistics["norm"] / x.norm(dim=-1, keepdim=True)
    if word == "wina":
        return x.abs() * norms
    if word == "amber":
        low, high = torch.quantile(weight, torch.tensor([0.005, 0.995]))
        inner = weight[(weight >= low) & (weight <= high)]
        columns = ((weight - inner.mean()) / inner.std()).norm(dim=0)
        return x.abs() * columns / columns.min()
    raise KeyError(word)


@pytest.mark.parametrize("word", ["magnitude", "clact", "wina", "amber"])
def test_scorers_are_their_formulas(model, options, word):
    for site in find_sites(model, ALL, "input"):
        x = torch.randn(2, 5, site.width)
        scores = build(word, SCORERS, options).score(x, site)
        naive = naive_scores(word, x, site.weight, options["statistics"][site.module_name])
        torch.testing.assert_close(scores, naive, rtol=1e-6, atol=0)
        assert torch.equal(n_of_m_mask(scores, 8, 16), best(naive.reshape(-1, 16), 8).reshape(x.shape))


def test_scores_of_weights_and_as_published(model, options):
    (site,) = find_sites(model, ["up_proj"], "weight", layers="1")
    norm = options["statistics"][site.module_name]["norm"]
    wanda = build("wanda", SCORERS, options).score(site.weight, site)
    torch.testing.assert_close(wanda, site.weight.abs() * norm, rtol=1e-6, atol=0)
    x = torch.randn(2, 5, site.width)
    columns = x.reshape(-1, site.width).norm(dim=0)
    published = build("clact", SCORERS, {}, as_published=True).score(x, site)
    torch.testing.assert_close(published, x.abs() * columns / x.norm(dim=-1, keepdim=True))

    # To the last bit, each operation rounded to the input's dtype: divided, then multiplied.
    x = x.bfloat16()
    rows = (x.pow(2).sum(-1, keepdim=True).sqrt() + 1e-8).double()
    quotient = (x.abs().double() / rows).bfloat16().double()
    expected = (quotient * x.flatten(0, 1).pow(2).sum(0).sqrt().double()).bfloat16()
    published = build("clact", SCORERS, {}, as_published=True).score(x, site)
    assert published.dtype == torch.bfloat16 and torch.equal(published, expected)
    assert not torch.equal(published, (x.abs() * (x.flatten(0, 1).norm(dim=0) / rows)).bfloat16())


def test_random_scores_depend_on_seed_site_and_position_alone(model):
    first, second = find_sites(model, ["q_proj", "k_proj"], "input", layers="0")
    scorer = build("random", SCORERS, {"seed": 1})
    x = torch.randn(3, 50, 48)
    scores = scorer.score(x, first)
    assert torch.equal(scores[0, :7], build("random", SCORERS, {"seed": 1}).score(x[1, :7] * 2, first))
    assert not torch.equal(scores, scorer.score(x, second))
    assert not torch.equal(scores, build("random", SCORERS, {"seed": 2}).score(x, first))
    assert scores[0].unique().numel() > 2390 and abs(scores[0].mean() - 0.5) < 0.02


def naive_output(word, x, site, options):
    """Formulas of the paper with 2:4 by magnitude, in float64."""
    x, weight, bias = x.double(), site.weight.double(), site.module.bias
    bias = 0 if bias is None else bias.double()
    table = {key: value.double() for key, value in options["parameters"][site.module_name].items()}
    known = {key: value.double() for key, value in options["statistics"][site.module_name].items()}

    def pruned(values):
        return values * best(values.abs().reshape(-1, 4), 2).reshape(values.shape)

    variance = (x.var(-1, keepdim=True) / pruned(x).var(-1, keepdim=True)).sqrt()
    if word == "none":
        return pruned(x) @ weight.T + bias
    if word == "variance":
        return (pruned(x) * variance) @ weight.T + bias
    if word in ("shift", "shift_mean", "shift_static", "learned_shift"):
        eta = {
            "shift": x.sort(dim=-1).values[..., (x.shape[-1] - 1) // 2].unsqueeze(-1),
            "shift_mean": x.mean(-1, keepdim=True),
            "shift_static": known["centre"],
            "learned_shift": table["eta"],
        }[word]
        return (pruned(x - eta) + eta) @ weight.T + bias
    if word in ("scale_shift", "variance_scale_shift"):
        factor = 1 if word == "scale_shift" else variance
        return ((pruned(x) * factor) @ weight.T + bias) * (1 + table["scale"]) + table["shift"]
    if word == "smoothing":
        s = (known["maximum"] / weight.abs().amax(0)).sqrt()
        return pruned(x / s) @ (weight * s).T + bias
    if word == "low_rank":
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        low = left[:, :4] * values[:4] @ right[:4]
        return pruned(x) @ weight.T + (x - pruned(x)) @ low.T + bias
    raise KeyError(word)


@pytest.mark.parametrize("word", list(MITIGATIONS))
@torch.inference_mode()
def test_mitigations_are_their_formulas(model, options, word):
    for site in find_sites(model, ALL, "input", layers="1"):
        torch.manual_seed(site.width)
        x = torch.randn(2, 5, site.width) + 0.3
        mitigation = build(word, MITIGATIONS, options)
        scheme = Scheme("input", (site.projection,), Magnitude(), NOfM(2, 4), mitigation)
        values = prune(x, site, scheme).values
        y = linear(values, site.weight, site.module.bias)
        if mitigation.corrects_output:
            y = mitigation.correct(y, values, x, site)
        naive = naive_output(word, x, site, options)
        assert (y - naive).norm() / naive.norm() < 1e-6


@torch.inference_mode()
def test_mitigations_as_published(model):
    (site,) = find_sites(model, ["up_proj"], "input", layers="1")
    x = torch.randn(2, 5, site.width) + 1
    kept = x * best(x.abs().reshape(-1, 4), 2).reshape(x.shape)
    variance = build("variance", MITIGATIONS, {}, as_published=True)
    torch.testing.assert_close(variance.restore(kept, x, site), kept * (x.var() / kept.var()).sqrt())
    shift = build("shift", MITIGATIONS, {}, as_published=True)
    torch.testing.assert_close(shift.prepare(x, site), x - x.mean(-1, keepdim=True))
    learned = build("learned_shift", MITIGATIONS, {}, as_published=True, pattern=NOfM(2, 4))
    first = x.mean(-1, keepdim=True)
    torch.testing.assert_close(learned.prepare(x, site), x - first)
    factor = (x.var() / kept.var()).sqrt()
    torch.testing.assert_close(learned.restore(kept, x, site), (kept + first) * factor)
    later = torch.randn(1, 12, site.width)
    still = torch.cat([first.flatten(), torch.zeros(2)])[:, None]
    torch.testing.assert_close(learned.prepare(later, site), later - still)
    torch.testing.assert_close(learned.restore(later, later, site), (later + still) * factor)
    smoothing = build("smoothing", MITIGATIONS, {}, as_published=True)
    s = (x.abs().amax((0, 1)) / site.weight.abs().amax(0)).sqrt()
    torch.testing.assert_close(smoothing.prepare(x, site), x / s)
    assert smoothing.restore(kept, x, site) is kept
    rounded = (site.weight * s).double()  # in float32, before the product
    torch.testing.assert_close(
        smoothing.correct(torch.zeros(1), kept, x, site).double(),
        kept.double() @ rounded.T,
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_constant_token_stays_finite_under_variance(model):
    (site,) = find_sites(model, ["up_proj"], "input", layers="1")
    zeros = torch.zeros(2, site.width)
    assert torch.equal(build("variance", MITIGATIONS, {}).restore(zeros, zeros, site), zeros)


def test_dropped_biases_collapse_qwen2_and_kept_ones_do_not(tmp_path):
    """Random weights with biases much larger than what the layers compute, as Qwen2.5's are."""
    model = load_tiny_model(save_tiny_model("qwen2", tmp_path, bias=30.0))
    dense = logits(model).log_softmax(-1)

    def divergence(**more) -> float:
        with sparsify(model, Scheme("input", ALL, Magnitude(), NOfM(8, 16), NoMitigation(), **more)):
            sparse = logits(model).log_softmax(-1)
        return (dense.exp() * (dense - sparse)).sum(-1).mean().item()

    assert divergence(drops_bias=True) > 2 * divergence()
    assert torch.equal(logits(model).log_softmax(-1), dense)


def test_thresholds_of_fused_parts_are_separate(tmp_path):
    model = load_tiny_model(save_tiny_model("phi3", tmp_path))
    table = {"gate_proj": {"layer_0": 0.2, "layer_1": 0.2}, "up_proj": {"layer_0": 0.9, "layer_1": 0.9}}
    outputs = []
    layer = model.model.layers[0].mlp.gate_up_proj
    scheme = Scheme("output", ("gate_proj", "up_proj"), Magnitude(), Threshold(table), NoMitigation())
    with sparsify(model, scheme) as applied:
        handle = layer.register_forward_hook(lambda module, args, output: outputs.append((args[0], output)))
        logits(model)
        handle.remove()
    x, y = outputs[0]
    gate, up = layer(x).chunk(2, dim=-1)
    expected = torch.cat([gate * (gate.abs() >= 0.2), up * (up.abs() >= 0.9)], dim=-1)
    torch.testing.assert_close(y, expected)
    assert len(applied.sites) == 4 and applied.replaced_linear_layers == 2


def test_stored_weights_take_the_place_of_the_dense_ones(model, options):
    dense = logits(model)
    scheme = Scheme("weight", ALL, Magnitude(), Full(), StoredWeights(options["parameters"]))
    assert isinstance(scheme.mitigation, StoredWeights)
    with sparsify(model, scheme) as applied:
        site = applied.sites[0]
        assert torch.equal(site.weight, options["parameters"][site.module_name]["weight"])
        assert 0.3 < applied.realised_sparsity < 0.7
        assert not torch.equal(logits(model), dense)
    assert torch.equal(logits(model), dense)


def test_full_rank_residual_undoes_pruning(model):
    dense = logits(model)
    with sparsify(model, Scheme("input", ALL, Magnitude(), NOfM(1, 4), LowRank(96))):
        torch.testing.assert_close(logits(model), dense, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_shared_inputs_give_what_separate_masks_would(tmp_path, architecture):
    model = load_tiny_model(save_tiny_model(architecture, tmp_path))
    words = tuple(word for word in ALL if architecture not in UNGATED or word != "gate_proj")
    scheme = Scheme("input", words, Magnitude(), NOfM(2, 4), NoMitigation())
    with sparsify(model, scheme):
        shared = logits(model)

    class Alone(Magnitude):
        reads_site = True

    with sparsify(model, Scheme("input", words, Alone(), NOfM(2, 4), NoMitigation())):
        assert torch.equal(logits(model), shared)


def test_what_does_not_fit_is_refused_before_the_model_runs(model, options):
    def run(scorer, pattern):
        with sparsify(model, Scheme("input", ALL, scorer, pattern, NoMitigation())):
            logits(model)

    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.q_proj: pattern 4:7 does not divide"):
        run(Magnitude(), NOfM(4, 7))
    with pytest.raises(ValueError, match=r"q_proj: no norm was calibrated"):
        run(build("clact", SCORERS, {"statistics": {}}), NOfM(2, 4))
    assert refusal("weight", "magnitude", "n_of_m", "variance")
    assert refusal("input", "wanda", "n_of_m", "none")
    assert refusal("input", "magnitude", "threshold", "shift")
    with pytest.raises(ValueError, match="unknown scorer"):
        refusal("input", "somebody", "n_of_m", "none")


def test_what_an_experiment_needs_beforehand():
    assert needs_statistics("clact", "none", False) and not needs_statistics("clact", "none", True)
    assert needs_statistics("wanda", "none", False) and not needs_statistics("wanda", "none", True)
    assert needs_statistics("magnitude", "shift_static", True)
    assert made_by("magnitude", "scale_shift", False) == "trained_parameters"
    assert made_by("magnitude", "scale_shift", True) == "trained_parameters"
    assert made_by("magnitude", "learned_shift", False) == "trained_parameters"
    assert made_by("magnitude", "learned_shift", True) is None
    assert made_by("sparsegpt", "none", False) == made_by("sparsegpt", "none", True) == "pruned_weights"
    assert (made_by("wanda", "none", False), made_by("wanda", "none", True)) == (None, "pruned_weights")

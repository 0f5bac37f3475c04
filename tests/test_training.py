"""What is computed once and used many times: statistics, trained mitigations, SparseGPT's weights."""

import pytest
import torch
from actsparse.calibration.sparsegpt import prune_model, prune_weight
from actsparse.calibration.statistics import measure_statistics
from actsparse.calibration.training import Recipe, train
from actsparse.calibration.wanda import prune_in_order
from actsparse.kinds import KINDS
from actsparse.methods.mitigations.learned_shift import LearnedShift
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.mitigations.scale_shift import ScaleShift
from actsparse.methods.mitigations.variance_scale_shift import VarianceScaleShift
from actsparse.methods.patterns.n_of_m import NOfM, n_of_m_mask
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.per_site import load_per_site, save_per_site
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.layerwise import walk_layers
from actsparse.models.sites import decoder_layers, find_sites
from tiny_models import CONFIGS, UNGATED, load_tiny_model, save_tiny_model, token_windows

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WINDOWS = token_windows(12, 24, seed=5)


def tiny(tmp_path, architecture="llama"):
    return load_tiny_model(save_tiny_model(architecture, tmp_path))


def words(architecture):
    return tuple(word for word in ALL if architecture not in UNGATED or word != "gate_proj")


@pytest.mark.parametrize("architecture", CONFIGS)
def test_walking_layer_by_layer_is_the_models_own_forward(tmp_path, architecture):
    model = tiny(tmp_path, architecture)
    final = []
    layers = decoder_layers(model)
    handle = layers[-1].register_forward_hook(
        lambda module, args, output: final.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        for window in WINDOWS[:2]:
            model(input_ids=window[None], use_cache=False)
    handle.remove()
    for stage in walk_layers(model, WINDOWS[:2]):
        outputs = [stage.run(window) for window in range(2)]
    for found, expected in zip(outputs, final, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_statistics_are_those_of_all_tokens_and_survive_a_file(tmp_path):
    model = tiny(tmp_path / "model")
    statistics = measure_statistics(model, WINDOWS, ALL)
    inputs = {}
    sites = find_sites(model, ALL, "input")

    def record(name):
        return lambda module, args: inputs.setdefault(name, []).append(args[0].reshape(-1, args[0].shape[-1]))

    handles = [site.module.register_forward_pre_hook(record(site.name)) for site in sites]
    with torch.inference_mode():
        model(input_ids=WINDOWS)
    for handle in handles:
        handle.remove()
    assert set(statistics) == {site.name for site in sites}
    for name, row in statistics.items():
        (x,) = inputs[name]
        torch.testing.assert_close(row["norm"], x.norm(dim=0), rtol=1e-4, atol=1e-5)
        centre = x.median(dim=-1).values.mean(dim=0, keepdim=True)
        torch.testing.assert_close(row["centre"], centre, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(row["maximum"], x.abs().amax(dim=0), rtol=1e-4, atol=1e-5)
    save_per_site(statistics, tmp_path / "statistics.safetensors")
    loaded = load_per_site(tmp_path / "statistics.safetensors")
    assert all(torch.equal(loaded[name][what], row[what]) for name, row in statistics.items() for what in row)


@pytest.mark.parametrize("mitigation", [ScaleShift, LearnedShift, VarianceScaleShift])
@pytest.mark.parametrize("architecture", ["qwen2", "phi3", "gemma3", "opt"])
def test_training_lowers_the_error_on_held_out_windows_at_every_site(tmp_path, architecture, mitigation):
    model = tiny(tmp_path, architecture)
    before = model(input_ids=WINDOWS).logits
    scheme = Scheme("input", words(architecture), Magnitude(), NOfM(2, 4), mitigation())
    recipe = Recipe(learning_rate=3e-3, epochs=3, validate_every=4)
    trained = train(model, scheme, WINDOWS[4:], WINDOWS[:4], recipe)
    assert torch.equal(model(input_ids=WINDOWS).logits, before)
    assert len(trained.progress) == len(find_sites(model, words(architecture), "input"))
    assert all(site.after <= site.before for site in trained.progress)
    # Random weights and a few tokens leave little to learn, and nothing at some sites.
    improved = [site.after < site.before for site in trained.progress]
    assert sum(improved) >= len(improved) / 2
    save_per_site(trained.parameters, tmp_path / "parameters.safetensors")
    params = {
        "projections": list(words(architecture)),
        "pattern": "2:4",
        "mitigation": {
            ScaleShift: "scale_shift",
            LearnedShift: "learned_shift",
            VarianceScaleShift: "variance_scale_shift",
        }[mitigation],
    }
    loaded = KINDS["prune_activations"].of(params).build(parameters=tmp_path / "parameters.safetensors")
    with sparsify(model, loaded) as applied:
        assert model(input_ids=WINDOWS).logits.isfinite().all()
    assert applied.realised_sparsity == 0.5


def test_a_layer_without_its_bias_learns_from_the_dense_one_that_has_it(tmp_path):
    model = tiny(tmp_path, "qwen2")
    everything = Scheme("input", ("q_proj",), Magnitude(), TopK(0.0), ScaleShift(), "0", drops_bias=True)
    (site,) = find_sites(model, ["q_proj"], "input", "0")
    outputs = []
    handle = site.module.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        for window in WINDOWS[:4]:
            model(input_ids=window[None])
    handle.remove()
    bias = site.module.bias.double()
    size = sum(y.double().square().sum() for y in outputs)
    missing = 4 * WINDOWS.shape[1] * bias.square().sum() / size
    (progress,) = train(model, everything, WINDOWS[4:], WINDOWS[:4]).progress
    assert progress.before == pytest.approx(missing.item(), rel=1e-5) and progress.before > 0.01


def test_training_stops_early_and_keeps_the_best(tmp_path):
    model = tiny(tmp_path)
    scheme = Scheme("input", ("q_proj",), Magnitude(), NOfM(2, 4), ScaleShift())
    wild = Recipe(learning_rate=10.0, epochs=20, validate_every=1, patience=2)
    trained = train(model, scheme, WINDOWS[4:], WINDOWS[:4], wild)
    for site in trained.progress:
        assert site.steps == 2 and site.after == site.before
    assert all(not row["scale"].any() for row in trained.parameters.values())


def naive_sparsegpt(weight, hessian, n, m):
    """Optimal brain surgeon, one column at a time, with the inverse recomputed for the columns left."""
    weight, hessian = weight.double().clone(), hessian.double().clone()
    hessian += 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    for start in range(0, weight.shape[1], m):
        # Saliencies of the columns of a group are those of each when it is the first one left.
        scales = [torch.linalg.inv(hessian[i:, i:])[0, 0].sqrt() for i in range(start, start + m)]
        kept = n_of_m_mask((weight[:, start : start + m] / torch.stack(scales)).abs(), n, m)
        for column in range(start, start + m):
            inverse = torch.linalg.inv(hessian[column:, column:])
            removed = torch.where(kept[:, column - start], 0, weight[:, column])
            weight[:, column:] -= removed[:, None] * inverse[0] / inverse[0, 0]
            weight[:, column] = torch.where(kept[:, column - start], weight[:, column], 0)
    return weight


def test_sparsegpt_is_optimal_brain_surgeon():
    torch.manual_seed(0)
    weight, x = torch.randn(16, 48), torch.randn(400, 48) @ torch.randn(48, 48)
    hessian = x.T @ x
    for n, m in ((2, 4), (8, 16), (4, 6)):
        pruned = prune_weight(weight, hessian, NOfM(n, m))
        naive = naive_sparsegpt(weight, hessian, n, m)
        assert torch.equal(pruned != 0, naive != 0)
        torch.testing.assert_close(pruned.double(), naive, rtol=1e-3, atol=1e-4)
        masked = weight * n_of_m_mask(weight.abs(), n, m)
        assert (x @ (pruned - weight).T).norm() < 0.8 * (x @ (masked - weight).T).norm()


def test_sparsegpt_in_blocks_is_sparsegpt_in_one(monkeypatch):
    torch.manual_seed(0)
    weight, x = torch.randn(8, 96), torch.randn(400, 96) @ torch.randn(96, 96)
    whole = prune_weight(weight, x.T @ x, NOfM(2, 4))
    monkeypatch.setattr("actsparse.calibration.sparsegpt.BLOCK", 16)
    torch.testing.assert_close(prune_weight(weight, x.T @ x, NOfM(2, 4)), whole, rtol=1e-3, atol=1e-4)


def test_sparsegpt_survives_dead_inputs():
    x = torch.randn(100, 32)
    x[:, 5] = 0
    pruned = prune_weight(torch.randn(4, 32), x.T @ x, TopK(0.5))
    assert pruned.isfinite().all() and not pruned[:, 5].any()
    assert (pruned == 0).sum() >= 64


@pytest.mark.parametrize("architecture", ["llama", "phi3", "opt"])
@pytest.mark.parametrize("pattern", ["2:4", 0.5])
def test_stored_sparsegpt_weights_give_the_pruned_model(tmp_path, architecture, pattern):
    model, other = tiny(tmp_path, architecture), load_tiny_model(tmp_path)
    rule = NOfM(2, 4) if pattern == "2:4" else TopK(0.5)
    weights = prune_model(other, WINDOWS, rule, words(architecture))
    save_per_site(weights, tmp_path / "weights.safetensors")
    params = {"projections": list(words(architecture)), "pattern": pattern, "scorer": "sparsegpt"}
    scheme = KINDS["prune_weights"].of(params).build(parameters=tmp_path / "weights.safetensors")
    with torch.no_grad():
        dense = model(input_ids=WINDOWS).logits
        with sparsify(model, scheme) as applied:
            stored = model(input_ids=WINDOWS).logits
        assert torch.equal(stored, other(input_ids=WINDOWS).logits)
        magnitude = Scheme("weight", words(architecture), Magnitude(), rule, NoMitigation())
        with sparsify(model, magnitude):
            plain = model(input_ids=WINDOWS).logits
        assert (stored - dense).norm() < (plain - dense).norm()
        assert torch.equal(model(input_ids=WINDOWS).logits, dense)
    assert applied.realised_sparsity == pytest.approx(0.5, abs=1e-3)


def kept_by_wanda(weight, inputs, pattern):
    """The definition, in float64: of each four weights two, or of each row half, by abs(W) norm(X)."""
    scores = weight.double().abs() * inputs.double().square().sum(0).sqrt()
    groups = scores.reshape(len(scores), -1, 4 if pattern == "2:4" else scores.shape[1])
    best = groups.argsort(dim=2, descending=True, stable=True)[..., : groups.shape[2] // 2]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(2, best, True).reshape(scores.shape)


@pytest.mark.parametrize("pattern", ["2:4", 0.5])
def test_wanda_as_published_sees_what_pruned_layers_put_out(tmp_path, pattern):
    model, other = tiny(tmp_path), load_tiny_model(tmp_path)
    rule = NOfM(2, 4) if pattern == "2:4" else TopK(0.5)
    found = prune_in_order(other, WINDOWS, rule, ALL)
    dense = {name: part.weight.clone() for name, part in model.named_modules() if name in found}
    for layer in decoder_layers(model):
        parts = [part for part in layer.modules() if isinstance(part, torch.nn.Linear)]
        seen = {}

        def record(part, args, seen=seen):
            seen[part] = args[0].flatten(0, 1)

        hooks = [part.register_forward_pre_hook(record) for part in parts]
        with torch.no_grad():
            model(input_ids=WINDOWS)
            for part in parts:
                part.weight.mul_(kept_by_wanda(part.weight, seen[part], pattern))
        for hook in hooks:
            hook.remove()
    assert len(found) == 7 * len(decoder_layers(model))
    for name, part in model.named_modules():
        if name in found:
            assert torch.equal(found[name]["weight"], part.weight)

    # The one-pass way chooses others, from the second layer on.
    save_per_site(found, tmp_path / "weights.safetensors")
    params = {"projections": list(ALL), "pattern": pattern, "scorer": "wanda", "as_published": True}
    scheme = KINDS["prune_weights"].of(params).build(parameters=tmp_path / "weights.safetensors")
    fresh = load_tiny_model(tmp_path)
    with torch.no_grad(), sparsify(fresh, scheme):
        assert torch.equal(fresh(input_ids=WINDOWS).logits, other(input_ids=WINDOWS).logits)
    statistics = measure_statistics(fresh, WINDOWS, ALL)
    norms = {name: row["norm"].double() for name, row in statistics.items()}
    same = [
        torch.equal(found[name]["weight"] != 0, kept_by_wanda(dense[name], norms[name][None], pattern))
        for name in found
    ]
    assert all(same[:4]) and not all(same)

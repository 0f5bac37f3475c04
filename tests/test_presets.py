"""The neighbours: TEAL, CATS, WINA, R-Sparse."""

import pytest
import torch
from actsparse.files import write_json
from actsparse.histograms import measure_histograms
from actsparse.mitigations.none import NoMitigation
from actsparse.patterns.top_k_table import TopKTable
from actsparse.presets import EVERYTHING, cats, r_sparse, teal, wina
from actsparse.schemes import build_scheme
from actsparse.scorers.cats import Cats
from actsparse.scorers.magnitude import Magnitude
from actsparse.sparsify import Scheme, sparsify
from actsparse.teal import greedy_thresholds
from actsparse.thresholds import compute_thresholds
from tiny_models import load_tiny_model, save_tiny_model, token_windows

WINDOWS = token_windows(4, 48, seed=7)


@pytest.fixture
def model(tmp_path):
    return load_tiny_model(save_tiny_model("llama", tmp_path / "model"))


def scheme_of(experiment, thresholds=None):
    params = dict(experiment)
    return build_scheme(params.pop("method"), params, thresholds, None)


@torch.inference_mode()
def run(model, scheme):
    with sparsify(model, scheme) as applied:
        logits = model(input_ids=WINDOWS).logits
    return logits, applied.realised_sparsity


def test_teal_uniform_and_greedy(model, tmp_path):
    histograms = measure_histograms(model, WINDOWS, EVERYTHING, side="input")
    uniform, greedy = tmp_path / "uniform.json", tmp_path / "greedy.json"
    write_json(uniform, compute_thresholds(histograms, 0.4))
    write_json(greedy, greedy_thresholds(model, WINDOWS[:2], histograms, 0.4, step=0.1))
    dense, _ = run(model, None)
    errors = []
    for thresholds in (uniform, greedy):
        logits, sparsity = run(model, scheme_of(teal(0.4), thresholds))
        assert 0.3 < sparsity < 0.5
        errors.append((logits - dense).norm())
    assert errors[1] < 1.1 * errors[0]


def test_cats_is_masking_the_activated_gate(model, tmp_path):
    thresholds = tmp_path / "thresholds.json"
    table = compute_thresholds(measure_histograms(model, WINDOWS, ["gate_proj"], scorer=Cats()), 0.5)
    write_json(thresholds, table)
    mlp, seen = model.model.layers[0].mlp, []
    scheme = scheme_of(cats(0.5), thresholds)
    with torch.no_grad(), sparsify(model, scheme) as applied:
        handle = mlp.down_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        inputs = mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        model(input_ids=WINDOWS)
        handle.remove()
        inputs.remove()
    x, product = seen[:2]
    active = mlp.act_fn(mlp.gate_proj(x))
    expected = active * (active.abs() >= table["gate_proj"]["layer_0"]) * mlp.up_proj(x)
    torch.testing.assert_close(product, expected)
    assert applied.realised_sparsity == pytest.approx(0.5, abs=0.08)


def test_wina_and_r_sparse(model):
    dense, _ = run(model, None)
    for experiment in (wina(0.5), r_sparse(0.5, rank=8)):
        logits, sparsity = run(model, scheme_of(experiment))
        assert sparsity == 0.5 and not torch.equal(logits, dense)


def test_sparsity_from_a_table(model):
    table = {"up_proj": {"layer_0": 0.25, "layer_1": 0.75}}
    _, sparsity = run(model, Scheme("input", ("up_proj",), Magnitude(), TopKTable(table), NoMitigation()))
    assert sparsity == 0.5
    with pytest.raises(ValueError, match=r"down_proj: its sparsity in the table is None"):
        run(model, Scheme("input", ("down_proj",), Magnitude(), TopKTable(table), NoMitigation()))

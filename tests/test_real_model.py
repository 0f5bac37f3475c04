"""The default study's model on real text: our numbers against plain loops that use none of our code."""

import math

import pandas as pd
import pytest
import torch
from actsparse.evaluation.perplexity import measure_perplexity
from actsparse.kinds import KINDS
from actsparse.methods.sparsify import sparsify
from actsparse.models.windows import make_windows
from transformers import AutoModelForCausalLM, AutoTokenizer

LENGTH, WINDOWS = 256, 2
PROJECTIONS = [f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down")]


@pytest.fixture(scope="module")
def model(real_model):
    return AutoModelForCausalLM.from_pretrained(real_model.with_suffix(""), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def texts(real_corpus):
    return pd.read_parquet(real_corpus)["text"].tolist()[:3]


@pytest.fixture(scope="module")
def tokens(model, real_model, texts):
    """Windows cut by hand."""
    tokenizer = AutoTokenizer.from_pretrained(real_model.with_suffix(""))
    ids = tokenizer("\n\n".join(texts), return_tensors="pt").input_ids[0]
    whole = len(ids) // LENGTH
    starts = [i * whole // WINDOWS * LENGTH for i in range(WINDOWS)]
    return torch.stack([ids[start : start + LENGTH] for start in starts])


def plain_perplexity(model, tokens):
    losses = []
    with torch.inference_mode():
        for window in tokens:
            logits = model(window[None]).logits[0].double()
            losses.append(torch.nn.functional.cross_entropy(logits[:-1], window[1:], reduction="none"))
    return math.exp(torch.cat(losses).mean().item())


def test_windows_are_the_plain_ones(real_model, tokens, texts):
    tokenizer = AutoTokenizer.from_pretrained(real_model.with_suffix(""))
    ours, _ = make_windows(tokenizer, texts, LENGTH, WINDOWS)
    assert torch.equal(ours.long(), tokens)


def test_dense_perplexity(model, tokens):
    assert measure_perplexity(model, tokens)["value"] == pytest.approx(
        plain_perplexity(model, tokens), rel=1e-5
    )


def test_n_of_m_activations(model, tokens):
    scheme = KINDS["prune_activations"].of({"pattern": "8:16", "projections": PROJECTIONS}).build()
    with sparsify(model, scheme) as applied:
        ours = measure_perplexity(model, tokens)["value"]
    assert applied.realised_sparsity == 0.5
    assert len(applied.sites) == 210

    def prune(module, args):
        groups = args[0].reshape(-1, 16)
        kept = torch.zeros_like(groups)
        best = groups.abs().argsort(dim=-1, descending=True, stable=True)[:, :8]
        kept.scatter_(1, best, groups.gather(1, best))
        return (kept.reshape(args[0].shape),)

    layers = model.model.layers
    linears = [m for m in layers.modules() if isinstance(m, torch.nn.Linear)]
    hooks = [linear.register_forward_pre_hook(prune) for linear in linears]
    expected = plain_perplexity(model, tokens)
    for hook in hooks:
        hook.remove()
    assert ours == pytest.approx(expected, rel=1e-5)
    assert ours > plain_perplexity(model, tokens)


def test_thresholds(model, tokens, tmp_path):
    outputs = {}

    def remember(name):
        return lambda module, args, y: outputs.setdefault(name, []).append(y.abs().flatten())

    ffn = {
        f"{p}.layer_{i}": getattr(layer.mlp, p)
        for i, layer in enumerate(model.model.layers)
        for p in PROJECTIONS[4:]
    }
    hooks = [module.register_forward_hook(remember(name)) for name, module in ffn.items()]
    plain_perplexity(model, tokens)
    for hook in hooks:
        hook.remove()
    values = {name: torch.cat(parts).median().item() for name, parts in outputs.items()}

    from actsparse.methods.thresholds import save_thresholds

    nested = {p: {f"layer_{i}": values[f"{p}.layer_{i}"] for i in range(30)} for p in PROJECTIONS[4:]}
    save_thresholds(nested, tmp_path / "t.json")
    kind = KINDS["threshold"].of({"sparsity": 0.5, "projections": PROJECTIONS[4:]})
    scheme = kind.build(thresholds=tmp_path / "t.json")
    with sparsify(model, scheme) as applied:
        ours = measure_perplexity(model, tokens)["value"]
    assert len(applied.sites) == 90

    hooks = [
        module.register_forward_hook(lambda m, a, y, t=values[name]: torch.where(y.abs() >= t, y, 0.0))
        for name, module in ffn.items()
    ]
    expected = plain_perplexity(model, tokens)
    for hook in hooks:
        hook.remove()
    assert ours == pytest.approx(expected, rel=1e-5)


def test_weights_are_pruned_and_come_back(model, tokens):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scheme = KINDS["prune_weights"].of({"pattern": "2:4", "projections": PROJECTIONS}).build()
    with sparsify(model, scheme) as applied:
        weight = model.model.layers[7].mlp.down_proj.weight
        dense = before["model.layers.7.mlp.down_proj.weight"]
        groups = dense.reshape(-1, 4)
        best = groups.abs().argsort(dim=-1, descending=True, stable=True)[:, :2]
        expected = torch.zeros_like(groups).scatter_(1, best, groups.gather(1, best)).reshape(dense.shape)
        assert torch.equal(weight.data, expected)
        assert applied.realised_sparsity == pytest.approx(0.5, abs=0.01)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

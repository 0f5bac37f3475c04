"""Importance by contribution: own parts and factors against the formula, and the choice they lead to."""

import pytest
import torch
from actsparse.codebooks.contribution import SMALLEST, own_part
from actsparse.codebooks.fit import fit_codebook
from actsparse.extraction import extract_patterns
from actsparse.mitigations.none import NoMitigation
from actsparse.packing import unpack
from actsparse.pattern_store import PatternStore, PatternWriter
from actsparse.patterns.codebook import CodebookPattern
from actsparse.scorers.signed import Signed
from actsparse.sites import find_sites
from actsparse.sparsify import Scheme, sparsify
from tiny import tiny_llama
from transformers import AutoModelForCausalLM

LAYERS, LIMITS = 2, {"gate_proj": 0.05, "up_proj": 0.05, "down_proj": 0.001}
THRESHOLDS = {name: {f"layer_{i}": limit for i in range(LAYERS)} for name, limit in LIMITS.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return AutoModelForCausalLM.from_pretrained(tiny_llama(tmp_path_factory.mktemp("tiny") / "model")).eval()


@pytest.fixture(scope="module")
def windows(model):
    return torch.randint(0, model.config.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def outputs(model, windows):
    """Outputs of gate and up of each layer in the dense model, (tokens, D)."""
    seen = {(name, i): [] for name in LIMITS for i in range(LAYERS)}
    hooks = [
        getattr(layer.mlp, name).register_forward_hook(
            lambda module, args, output, site=(name, i): seen[site].append(output[0])
        )
        for i, layer in enumerate(model.model.layers)
        for name in LIMITS
    ]
    with torch.inference_mode():
        for window in windows:
            model(input_ids=window[None])
    for hook in hooks:
        hook.remove()
    return {site: torch.cat(some) for site, some in seen.items()}


@pytest.fixture(scope="module", params=["bfloat16", "uint8"])
def store(request, tmp_path_factory, model, windows):
    folder = tmp_path_factory.mktemp("patterns") / request.param
    widths = {name: getattr(model.model.layers[0].mlp, name).out_features for name in LIMITS}
    with PatternWriter(folder, {}, LAYERS, widths, magnitudes=request.param) as writer:
        extract_patterns(model, windows, THRESHOLDS, writer, importance="contribution")
    return PatternStore(folder)


def importance(model, outputs, name, layer):
    """The formula, written out: (tokens, D), 0 where a neuron is inactive."""
    active = {key: outputs[key, layer].abs() >= limit for key, limit in LIMITS.items()}
    gate = torch.nn.functional.silu(outputs["gate_proj", layer]).abs() * active["gate_proj"]
    up = outputs["up_proj", layer].abs() * active["up_proj"]
    norms = model.model.layers[layer].mlp.down_proj.weight.norm(dim=0)
    return {
        "gate_proj": gate * up.mean(0) * norms,
        "up_proj": up * gate.mean(0) * norms,
        "down_proj": outputs["down_proj", layer].abs() * active["down_proj"],
    }[name].detach()


@pytest.mark.parametrize("name", LIMITS)
def test_a_store_has_the_importance_of_the_formula(model, outputs, store, name):
    blocks = list(store.magnitude_blocks(name))
    assert len(blocks) == LAYERS
    scales = store.magnitude_scales(name)
    for found, layer in blocks:
        expected = importance(model, outputs, name, layer)
        assert torch.equal(found > 0, outputs[name, layer].abs() >= LIMITS[name])
        # Codes are of roots: half a step of 1 / 255 of the row's largest own part, before the factor.
        tolerance = 0.004 if store.magnitudes == "bfloat16" else 0.02
        torch.testing.assert_close(
            found, expected, rtol=2 * tolerance, atol=tolerance * float(expected.max())
        )
        positive = expected[expected > 0].double()
        assert float(scales[layer]) == pytest.approx(float(positive.log().mean().exp()), rel=1e-3)


def test_a_neuron_that_adds_nothing_stays_active(model):
    site = next(site for site in find_sites(model, ["gate_proj"], "output"))
    parts = own_part(torch.tensor([[-80.0, 0.5, 0.0]]), site)
    assert parts.tolist() == [
        [pytest.approx(SMALLEST), pytest.approx(0.5 * torch.tensor(0.5).sigmoid()), parts[0, 0]]
    ]


def test_the_oracle_chooses_by_importance(model, windows, outputs, store):
    options = {"update_power": 1, "assign_power": 1}
    arguments = (8, 0.5, "spherical", "per_layer", 10_000, 5, 0)
    books = {name: fit_codebook(store, name, *arguments, options=options) for name in LIMITS}
    assert books["down_proj"].factors is None
    pattern = CodebookPattern(THRESHOLDS, books)
    scheme = Scheme("output", ("gate_proj",), Signed(), pattern, NoMitigation(), layers="0")
    seen = []
    mlp = model.model.layers[0].mlp
    with torch.inference_mode(), sparsify(model, scheme):
        hook = mlp.gate_proj.register_forward_hook(lambda module, args, output: seen.append(output[0]))
        for window in windows:
            model(input_ids=window[None])
        hook.remove()
    kept = torch.cat(seen) != 0
    worth = importance(model, outputs, "gate_proj", 0)
    centroids = unpack(books["gate_proj"].centroids[0, 0], worth.shape[1])
    best = (worth @ centroids.float().T).max(1).values
    achieved = (worth * kept).sum(1)
    assert (achieved >= 0.97 * best).all() and (achieved <= best * 1.0001).all()
    # By magnitude other centroids would be chosen, which keep less.
    plain = (outputs["gate_proj", 0].abs() * (worth > 0)) @ centroids.float().T
    other = (worth @ centroids.float().T).gather(1, plain.argmax(1, keepdim=True))[:, 0]
    assert other.sum() < achieved.sum()


def test_contribution_needs_the_whole_network(model, windows, tmp_path):
    with (
        pytest.raises(ValueError, match="down_proj"),
        PatternWriter(tmp_path, {}, LAYERS, {"up_proj": 64, "gate_proj": 64}, magnitudes="uint8") as writer,
    ):
        values = {name: THRESHOLDS[name] for name in ("up_proj", "gate_proj")}
        extract_patterns(model, windows, values, writer, importance="contribution")

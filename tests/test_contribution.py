"""Importance by contribution: own parts and factors against the formula, and the choice they lead to."""

import pytest
import torch
from actsparse.codebooks.contribution import SMALLEST, own_part
from actsparse.codebooks.extraction import extract_patterns
from actsparse.codebooks.fit import fit_codebook
from actsparse.codebooks.packing import unpack
from actsparse.codebooks.pattern import CodebookPattern, Signed
from actsparse.codebooks.pattern_store import PatternStore, PatternWriter
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.sites import find_sites
from tiny_models import load_tiny_model, save_tiny_model, token_windows

FFN = ["gate_proj", "up_proj", "down_proj"]
ACTIVATIONS = {
    "llama": torch.nn.functional.silu,
    "phi3": torch.nn.functional.silu,  # gate and up in one layer
    "gemma2": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}


@pytest.fixture(scope="module", params=ACTIVATIONS)
def network(request, tmp_path_factory):
    """A model, its sites by (projection, layer), their outputs (tokens, D), thresholds, the activation."""
    model = load_tiny_model(save_tiny_model(request.param, tmp_path_factory.mktemp("model")))
    sites = {(site.projection, site.layer): site for site in find_sites(model, FFN, "output")}
    outputs, windows = {key: [] for key in sites}, token_windows(3, 40)
    hooks = [
        site.module.register_forward_hook(
            lambda module, args, output, key=key, site=site: outputs[key].append(site.part(output)[0])
        )
        for key, site in sites.items()
    ]
    with torch.inference_mode():
        for window in windows:
            model(input_ids=window[None])
    for hook in hooks:
        hook.remove()
    outputs = {key: torch.cat(some) for key, some in outputs.items()}
    thresholds = {name: {} for name in FFN}
    for (name, layer), values in outputs.items():
        thresholds[name][f"layer_{layer}"] = float(values.abs().median())
    return model, windows, sites, outputs, thresholds, ACTIVATIONS[request.param]


@pytest.fixture(scope="module", params=["bfloat16", "uint8"])
def store(request, tmp_path_factory, network):
    model, windows, sites, _, thresholds, _ = network
    layers, widths = 1 + max(layer for _, layer in sites), {name: sites[name, 0].width for name in FFN}
    folder = tmp_path_factory.mktemp("patterns")
    with PatternWriter(folder, {}, layers, widths, magnitudes=request.param) as writer:
        extract_patterns(model, windows, thresholds, writer, importance="contribution")
    return PatternStore(folder)


def importance(network, name, layer):
    """The formula, written out: float32 (tokens, D), 0 where a neuron is inactive."""
    _, _, sites, outputs, thresholds, activation = network
    active = {key: outputs[key, layer].abs() >= thresholds[key][f"layer_{layer}"] for key in FFN}
    gate = activation(outputs["gate_proj", layer]).abs() * active["gate_proj"]
    up = outputs["up_proj", layer].abs() * active["up_proj"]
    norms = sites["down_proj", layer].module.weight.detach().norm(dim=0)
    return {
        "gate_proj": gate * up.mean(0) * norms,
        "up_proj": up * gate.mean(0) * norms,
        "down_proj": outputs["down_proj", layer].abs() * active["down_proj"],
    }[name]


@pytest.mark.parametrize("name", FFN)
def test_a_store_has_the_importance_of_the_formula(network, store, name):
    _, _, _, outputs, thresholds, _ = network
    blocks = list(store.magnitude_blocks(name))
    assert len(blocks) == store.layers
    scales = store.magnitude_scales(name)
    for found, layer in blocks:
        expected = importance(network, name, layer)
        assert torch.equal(found > 0, outputs[name, layer].abs() >= thresholds[name][f"layer_{layer}"])
        # bfloat16 has 8 bits; a code is off by half a step of 1 / 255, of a root.
        tolerance = 0.004 if store.magnitudes == "bfloat16" else 0.02
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.max()))
        logs = expected[expected > 0].double().log()
        assert float(scales[layer]) == pytest.approx(float(logs.mean().exp()), rel=0.01)


def test_a_neuron_that_adds_nothing_stays_active(network):
    _, _, sites, _, _, activation = network
    parts = own_part(torch.tensor([-80.0, 0.5, 0.0]), sites["gate_proj", 0])
    assert parts.tolist() == pytest.approx([SMALLEST, float(activation(torch.tensor(0.5))), SMALLEST])


def test_the_oracle_chooses_by_importance(network, store):
    model, windows, sites, outputs, thresholds, _ = network
    arguments = (8, 0.5, "spherical", "per_layer", 10_000, 5, 0)
    books = {name: fit_codebook(store, name, *arguments) for name in FFN}
    assert books["down_proj"].factors is None
    pattern = CodebookPattern(thresholds, books)
    scheme = Scheme("output", ("gate_proj",), Signed(), pattern, NoMitigation(), layers="0")
    site, seen = sites["gate_proj", 0], []
    with torch.inference_mode(), sparsify(model, scheme):
        hook = site.module.register_forward_hook(lambda module, args, y: seen.append(site.part(y)[0]))
        for window in windows:
            model(input_ids=window[None])
        hook.remove()
    worth = importance(network, "gate_proj", 0)
    kept = worth @ unpack(books["gate_proj"].centroids[0, 0], site.width).float().T
    chosen = (worth * (torch.cat(seen) != 0)).sum(1)
    # Weights have six bits.
    assert (chosen >= 0.95 * kept.amax(1)).all() and (chosen <= 1.0001 * kept.amax(1)).all()
    magnitudes = torch.where(worth > 0, outputs["gate_proj", 0].abs(), 0)
    by_magnitude = magnitudes @ unpack(books["gate_proj"].centroids[0, 0], site.width).float().T
    assert kept.gather(1, by_magnitude.argmax(1, keepdim=True)).sum() < chosen.sum()


@pytest.mark.parametrize(
    ("names", "word", "message"),
    [
        (FFN[:2], "contribution", "needs the outputs of down_proj"),
        (FFN, "worth", "allowed: magnitude, contr"),
    ],
)
def test_what_cannot_be_is_refused(network, tmp_path, names, word, message):
    model, windows, sites, _, thresholds, _ = network
    widths = {name: sites[name, 0].width for name in names}
    with (
        pytest.raises(ValueError, match=message),
        PatternWriter(tmp_path, {}, 2, widths, magnitudes="uint8") as writer,
    ):
        extract_patterns(model, windows, {name: thresholds[name] for name in names}, writer, importance=word)

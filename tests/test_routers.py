"""Routers learn what can be learned, survive their file, and are used in place of the oracle."""

import pytest
import torch
from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import pack
from actsparse.codebooks.pattern import CodebookPattern, Signed
from actsparse.codebooks.router import covered_shares, load_routers, save_routers, train_router
from actsparse.codebooks.routing import block_inputs, covered_by_codebook, layer_magnitudes
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.sites import find_sites
from tiny_models import load_tiny_model, save_tiny_model, token_windows


def problem(groups=1, tokens=2000):
    """Hidden states whose first channels tell which centroid is best."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 12, generator=generator) * torch.arange(1, 13) + 3
    scores = (hidden - 3)[:, : 4 * groups].reshape(tokens, groups, 4)
    return hidden, 0.9 + 0.05 * (scores / scores.abs().max())


@pytest.mark.parametrize(
    ("loss", "groups", "rank"),
    [
        ("mixed", 1, None),
        ("mixed", 2, 9),
        ("coverage", 1, 5),
        ("coverage", 2, None),
        ("cross_entropy", 1, None),
        ("cross_entropy", 2, 9),
    ],
)
def test_a_router_learns_what_is_linear(loss, groups, rank, tmp_path):
    hidden, covered = problem(groups)
    router = train_router(hidden[:1500], covered[:1500], rank, loss, epochs=60, seed=0)
    chosen = router.choose(hidden[1500:])
    assert chosen.shape == (500, groups)
    assert (chosen == covered[1500:].argmax(2)).float().mean() > 0.8
    sizes = 12 * 4 * groups if rank is None else rank * (12 + 4 * groups)
    assert (router.multiply_adds, router.parameters) == (sizes, sizes + 4 * groups)
    save_routers(tmp_path / "r", {"up_proj.layer_0": router}, {"loss": loss})
    loaded, about = load_routers(tmp_path / "r")
    assert torch.equal(loaded["up_proj.layer_0"].choose(hidden), router.choose(hidden))
    assert about == {"loss": loss}
    one, same = (train_router(hidden[:300], covered[:300], rank, loss, epochs=2, seed=3) for _ in range(2))
    assert torch.equal(one.bias, same.bias) and torch.equal(one.weights[0], same.weights[0])


def test_unknown_loss():
    with pytest.raises(ValueError, match=r"^loss: 'hinge' is unknown \(allowed: mixed, coverage, cross_entr"):
        train_router(*problem(), None, "hinge", 1, 0)


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_routers_choose_during_evaluation(tmp_path, architecture):
    model = load_tiny_model(save_tiny_model(architecture, tmp_path))
    names = ["gate_proj", "up_proj", "down_proj"]
    sites, windows = find_sites(model, names, "output"), token_windows(3, 40)
    thresholds = {name: {f"layer_{i}": 0.05 for i in range(len(sites) // 3)} for name in names}
    widths = {site.projection: site.width for site in sites}
    generator = torch.Generator().manual_seed(0)
    codebooks = {
        name: Codebook(pack(torch.rand(1, 1, 4, width, generator=generator) < 0.7), None, width, [])
        for name, width in widths.items()
    }
    hidden = block_inputs(model, windows, sites)
    routers = {}
    magnitudes_of = {
        layer: layer_magnitudes(
            [site for site in sites if site.layer == layer], inputs, thresholds, codebooks
        )
        for layer, inputs in hidden.items()
    }
    for site in sites:
        magnitudes = magnitudes_of[site.layer][site.projection]
        covered = covered_by_codebook(codebooks[site.projection], magnitudes, site.layer)
        assert torch.allclose(
            covered[:, 0],
            covered_shares(magnitudes, codebooks[site.projection].masks(torch.arange(4)[:, None], 0)),
        )
        routers[f"{site.projection}.layer_{site.layer}"] = train_router(
            hidden[site.layer], covered, None, "coverage", 20, 0
        )
    pattern = CodebookPattern(thresholds, codebooks, routers=routers)
    scheme = Scheme("output", tuple(names), Signed(), pattern, NoMitigation())
    dense = model(windows[:1]).logits
    with torch.inference_mode(), sparsify(model, scheme):
        model(windows[:1])
        first = sites[0]
        predicted = routers[f"{first.projection}.layer_0"].choose(pattern.inputs[0])
        assert torch.allclose(pattern.inputs[0], hidden[0][:40], atol=1e-5)
        assert predicted.shape == (40, 1)
    assert not pattern.inputs and torch.equal(model(windows[:1]).logits, dense)
    measured = pattern.measured()["coverage"]
    assert all(0 < measured[name]["accuracy"] <= 1 for name in names)
    layers, d = len(sites) // 3, hidden[0].shape[1]
    for name in names:
        assert measured[name]["router_multiply_adds"] == layers * 4 * d
        assert measured[name]["router_parameters"] == layers * 4 * (d + 1)
        assert measured[name]["ffn_multiply_adds"] == layers * 3 * d * widths["gate_proj"]
    missing = CodebookPattern(thresholds, codebooks, routers={})
    with pytest.raises(ValueError, match="no router was trained for it"):
        missing.check(first)

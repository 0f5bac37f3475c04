"""Architectures without a gate are pruned as the definitions say."""

import pytest
import torch
from actsparse.kinds import KINDS
from actsparse.methods.sparsify import sparsify
from actsparse.models.sites import find_sites
from tiny_models import UNGATED, load_tiny_model, save_tiny_model, token_windows

WORDS = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


def two_of_four(values):
    """The definition: the two largest magnitudes of each four neighbours stay."""
    groups = values.reshape(*values.shape[:-1], -1, 4)
    order = groups.abs().argsort(dim=-1, descending=True, stable=True)
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter(-1, order[..., :2], True)
    return torch.where(mask, groups, 0).reshape(values.shape)


def outputs(model, projections, tokens, edit):
    handles = [edit(site) for site in find_sites(model, projections, "input")]
    with torch.inference_mode():
        found = model(input_ids=tokens).logits
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("architecture", sorted(UNGATED))
def test_pruning_and_thresholds(tmp_path, architecture):
    model, tokens = load_tiny_model(save_tiny_model(architecture, tmp_path / "m")), token_windows(1, 12)

    def pruned_input(site):
        return site.module.register_forward_pre_hook(lambda module, args: (two_of_four(args[0]), *args[1:]))

    expected = outputs(model, WORDS, tokens, pruned_input)
    kind = KINDS["prune_activations"].of({"pattern": "2:4", "projections": WORDS})
    with sparsify(model, kind.build()) as applied, torch.inference_mode():
        torch.testing.assert_close(model(input_ids=tokens).logits, expected)
    assert applied.realised_sparsity == pytest.approx(0.5, abs=0.02)

    kind = KINDS["prune_weights"].of({"pattern": "2:4", "projections": WORDS})
    dense = {site.name: site.module.weight.clone() for site in find_sites(model, WORDS, "input")}
    with sparsify(model, kind.build()):
        for site in find_sites(model, WORDS, "input"):
            torch.testing.assert_close(site.module.weight, two_of_four(dense[site.name]))

    limits = {word: {f"layer_{layer}": 0.3 for layer in range(2)} for word in ("up_proj", "down_proj")}
    (tmp_path / "t.json").write_text(str(limits).replace("'", '"'))
    kind = KINDS["threshold"].of({"sparsity": 0.5, "projections": ["up_proj", "down_proj"]})

    def thresholded(site):
        return site.module.register_forward_hook(lambda module, args, y: torch.where(y.abs() >= 0.3, y, 0))

    expected = outputs(model, ["up_proj", "down_proj"], tokens, thresholded)
    with sparsify(model, kind.build(thresholds=tmp_path / "t.json")), torch.inference_mode():
        torch.testing.assert_close(model(input_ids=tokens).logits, expected)

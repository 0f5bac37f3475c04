"""Patterns are those of the dense model, or of the model with its thresholds at work."""

import pytest
import torch
from actsparse.codebooks.extraction import extract_patterns
from actsparse.codebooks.packing import unpack
from actsparse.codebooks.pattern_store import PatternStore, PatternWriter
from tiny import tiny_llama
from transformers import AutoModelForCausalLM

LAYERS, THRESHOLDS = 2, {"gate_proj": 0.05, "up_proj": 0.05, "down_proj": 0.001}


@pytest.mark.parametrize("thresholded", [False, True])
def test_patterns_are_what_hooks_of_ones_own_see(tmp_path, thresholded):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama(tmp_path / "model"))
    windows = torch.randint(0, model.config.vocab_size, (3, 9), generator=torch.Generator().manual_seed(1))
    values = {name: {f"layer_{i}": limit for i in range(LAYERS)} for name, limit in THRESHOLDS.items()}
    modules = {
        (name, i): getattr(layer.mlp, name)
        for i, layer in enumerate(model.model.layers)
        for name in THRESHOLDS
    }
    seen = {site: [] for site in modules}

    def naive(site):
        def hook(module, args, output):
            mask = output.abs() >= THRESHOLDS[site[0]]
            seen[site].append(mask[0])
            return output * mask if thresholded else None

        return hook

    hooks = [module.register_forward_hook(naive(site)) for site, module in modules.items()]
    with torch.inference_mode():
        for window in windows:
            model(input_ids=window[None])
    for hook in hooks:
        hook.remove()

    widths = {name: modules[name, 0].out_features for name in THRESHOLDS}
    with PatternWriter(tmp_path / "patterns", {}, LAYERS, widths) as writer:
        extract_patterns(model, windows, values, writer, thresholded)
    for name, width in widths.items():
        for block, layer in PatternStore(tmp_path / "patterns").blocks(name):
            masks = torch.cat(seen[name, layer])
            assert torch.equal(unpack(block, width), masks) and 0.1 < masks.float().mean() < 0.9

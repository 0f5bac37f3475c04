"""Patterns made up for tests of codebooks, and small stores of them."""

import torch
from actsparse.codebooks.pattern_store import PatternStore, PatternWriter
from hypothesis import settings
from hypothesis import strategies as st

# Codebooks of every kind are made in each example; fewer examples than by default do.
settings.register_profile("codebooks", deadline=None, max_examples=40)
settings.load_profile("codebooks")

LAYERS, TOKENS, WIDTHS = 3, 60, {"gate_proj": 70, "down_proj": 24}
FIT = {"clusters": 6, "centroid_sparsity": 0.4, "algorithm": "coverage", "steps": 5, "seed": 1}


def random_masks(rows, width, seed, density=0.5):
    return torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)) < density


def structured_masks(rows, width, seed, kinds=7, noise=0.1):
    """Return noisy copies of a few prototypes, as patterns that do fall in clusters."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = random_masks(kinds, width, seed)
    kind = torch.randint(kinds, (rows,), generator=generator)
    return prototypes[kind] ^ (torch.rand(rows, width, generator=generator) < noise)


problems = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 90),
        "width": st.sampled_from([1, 7, 8, 63, 64, 65, 130, 200]),
        "clusters": st.sampled_from([1, 2, 3, 15, 16, 17, 40]),
        "seed": st.integers(0, 99),
        "density": st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    }
)


def write_store(folder):
    """Write and open a store of two projections, 3 layers, 60 tokens in several shards."""
    with PatternWriter(folder, {"model": "tiny"}, LAYERS, WIDTHS, shard_bytes=700) as writer:
        for window in range(4):
            for name, width in WIDTHS.items():
                for layer in range(LAYERS):
                    masks = structured_masks(TOKENS // 4, width, seed=layer)
                    writer.add(name, layer, masks.roll(window, 0))
    return PatternStore(folder)


def write_weighted_store(folder):
    """Write and open a store with magnitudes: one projection, 2 layers of 200 tokens, far apart in scale."""
    generator = torch.Generator().manual_seed(5)
    with PatternWriter(folder, {"model": "tiny"}, 2, {"up_proj": 48}, magnitudes="bfloat16") as writer:
        for layer in range(2):
            values = torch.randn(200, 48, generator=generator).abs() ** 2 * 10**layer
            writer.add("up_proj", layer, values >= values.median(), values)
    return PatternStore(folder)


def all_patterns(store, name, layer=None):
    return torch.cat([block for block, at in store.blocks(name) if layer in (None, at)])

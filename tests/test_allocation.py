"""Centroids leave out more where it costs less energy."""

import pytest
import torch
from actsparse.codebooks.allocation import share_out, shares_by_energy
from actsparse.codebooks.fit import fit_codebook
from actsparse.codebooks.packing import count_active
from hypothesis import given
from hypothesis import strategies as st
from made_up_patterns import FIT, LAYERS, TOKENS, WIDTHS, write_store, write_weighted_store


def test_the_neurons_of_least_energy_are_left_out_wherever_they_are():
    energy = {
        "gate_proj": torch.tensor([[1, 1, 1, 97], [25, 25, 25, 25]]),
        "down_proj": torch.tensor([[500, 500], [100, 900]]),
    }
    # In parts of their layer's energy: 3 of 0.01, one of 0.1, four of 0.25, two of 0.5, 0.9, 0.97.
    assert share_out(energy, 0.0) == {"gate_proj": [0, 0], "down_proj": [0, 0]}
    assert share_out(energy, 0.25) == {"gate_proj": [0.75, 0], "down_proj": [0, 0]}
    assert share_out(energy, 5 / 12) == {"gate_proj": [0.75, 0.25], "down_proj": [0, 0.5]}
    assert share_out(energy, 10 / 12) == {"gate_proj": [0.75, 1], "down_proj": [1, 0.5]}


@given(seed=st.integers(0, 99), sparsity=st.floats(0, 0.99))
def test_what_is_left_out_is_the_share_asked_for_and_costs_least(seed, sparsity):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"gate_proj": (3, 40), "down_proj": (3, 16)}
    energy = {name: torch.randint(0, 50, shape, generator=generator) for name, shape in shapes.items()}
    shares = share_out(energy, sparsity)
    left_out = {name: [round(s * shapes[name][1]) for s in some] for name, some in shares.items()}
    assert sum(map(sum, left_out.values())) == round(sparsity * 3 * 56)
    dearest, cheapest = 0.0, 1.0
    for name, some in energy.items():
        for row, count in zip(some, left_out[name], strict=True):
            parts = (row / row.sum()).sort().values.tolist()
            dearest, cheapest = max([dearest, *parts[:count]]), min([cheapest, *parts[count:]])
    assert dearest <= cheapest


def test_energy_is_how_often_neurons_are_active_or_their_magnitudes(tmp_path):
    store = write_store(tmp_path / "plain")
    counts = {name: store.active_counts()[name].long() for name in WIDTHS}
    assert shares_by_energy(store, 0.3, "coverage", LAYERS * TOKENS) == share_out(counts, 0.3)
    weighted = write_weighted_store(tmp_path / "weighted")
    found = shares_by_energy(weighted, 0.3, "activation_aware", 10**6)["up_proj"]
    sums = torch.zeros(2, 48)
    for magnitudes, layer in weighted.magnitude_blocks("up_proj"):
        sums[layer] += magnitudes.sum(0)
    assert found == share_out({"up_proj": sums}, 0.3)["up_proj"]


@pytest.mark.parametrize("scope", ["pooled", "per_layer"])
@pytest.mark.parametrize("groups", [1, 2])
def test_centroids_have_the_size_that_their_layer_is_given(tmp_path, scope, groups):
    store = write_store(tmp_path)
    shares = [0.1, 0.4, 0.7]
    book = fit_codebook(
        store, "gate_proj", **FIT | {"centroid_sparsity": shares}, scope=scope, patterns=10**6, groups=groups
    )
    of_group = [round((1 - share) * 70 / groups) for share in (shares if scope == "per_layer" else [0.4])]
    assert count_active(book.centroids).tolist() == [[[ones] * 6] * groups for ones in of_group]
    ones = [63, 42, 21] if scope == "per_layer" else [42] * 3
    assert count_active(book.baseline).tolist() == ones

"""Histograms of magnitudes and the thresholds made from them."""

import json
from pathlib import Path

import pytest
import torch
from actsparse.calibration.histograms import (
    BINS,
    bin_of,
    compute_thresholds,
    edges,
    measure_histograms,
    quantile,
)
from actsparse.methods.thresholds import load_thresholds, save_thresholds
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import load_tiny_model, save_tiny_model

PUBLISHED = Path(__file__).parent.parent / "published"


@given(st.floats(min_value=2.0**-23, max_value=2.0**19, width=32))
def test_a_value_lies_in_its_bin(value):
    position = int(bin_of(torch.tensor([-value])))
    assert edges()[position] <= value < edges()[position + 1]


def test_zero_and_huge_values_have_bins():
    assert bin_of(torch.tensor([0.0, 1e-30, 1e30])).tolist() == [0, 0, BINS - 1]


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_quantile_matches_the_exact_one(fraction):
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).abs()
    histogram = torch.bincount(bin_of(values), minlength=BINS)
    exact = torch.quantile(values.double()[:200_000], fraction).item()
    assert quantile(histogram, fraction) == pytest.approx(exact, rel=2**-10)


def test_quantile_of_nothing():
    with pytest.raises(ValueError, match="empty"):
        quantile(torch.zeros(BINS, dtype=torch.int64), 0.5)


def test_histograms_count_what_hooks_see(tmp_path):
    model = load_tiny_model(save_tiny_model("llama", tmp_path))
    windows = torch.randint(0, 100, (3, 16), generator=torch.Generator().manual_seed(0))
    histograms = measure_histograms(model, windows, ["gate_proj", "down_proj"])
    seen = []
    hook = model.model.layers[1].mlp.gate_proj.register_forward_hook(lambda m, a, y: seen.append(y.flatten()))
    with torch.inference_mode():
        for window in windows:
            model(window[None])
    hook.remove()
    expected = torch.bincount(bin_of(torch.cat(seen)), minlength=BINS)
    assert torch.equal(histograms["gate_proj"][1], expected)
    assert histograms["down_proj"].shape == (len(model.model.layers), BINS)


def test_thresholds_realise_their_sparsity():
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(1))
    table = torch.bincount(bin_of(values), minlength=BINS)[None]
    threshold = compute_thresholds({"gate_proj": table}, 0.5)["gate_proj"]["layer_0"]
    assert (values.abs() < threshold).double().mean().item() == pytest.approx(0.5, abs=1e-3)


def test_sparsity_zero_keeps_everything():
    assert compute_thresholds({"p": torch.ones(1, BINS, dtype=torch.int64)}, 0)["p"]["layer_0"] == 0.0


@pytest.mark.parametrize(
    "path", sorted(PUBLISHED.glob("thresholds_*/*.json")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_published_thresholds_load_and_survive_a_round_trip(path, tmp_path):
    thresholds = load_thresholds(path)
    assert len(thresholds["gate_proj"]) == 32
    save_thresholds(thresholds, tmp_path / "t.json")
    assert load_thresholds(tmp_path / "t.json") == thresholds == json.loads(path.read_text())


@pytest.mark.parametrize(
    "text", ['{"gate_proj": {"layer_0": 0.1', '{"gate_proj": 3}', '{"p": {"layer_0": "x"}}']
)
def test_malformed_thresholds_are_refused_by_name(text, tmp_path):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json"):
        load_thresholds(tmp_path / "bad.json")

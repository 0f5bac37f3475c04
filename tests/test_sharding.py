"""Models whose layers accelerate spreads over devices, as far as one device can tell."""

import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import remove_hook_from_submodules
from actsparse.calibration.histograms import measure_histograms
from actsparse.calibration.statistics import measure_statistics
from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.pattern import CodebookPattern
from actsparse.evaluation.perplexity import measure_perplexity
from actsparse.methods.mitigations.low_rank import LowRank
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.mitigations.variance import Variance
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.scorers.wina import Wina
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.layerwise import walk_layers
from actsparse.models.loading import load_model
from actsparse.models.sites import find_sites
from actsparse.resources.models import fetch_model
from tiny import tiny_llama
from tiny_models import load_tiny_model, save_tiny_model, token_windows
from transformers import AutoModelForCausalLM

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FFN = ("gate_proj", "up_proj", "down_proj")
BLOCKS = (
    "model.embed_tokens",
    "model.rotary_emb",
    "model.layers.0",
    "model.layers.1",
    "model.norm",
    "lm_head",
)
SCHEMES = {
    "dense": lambda: None,
    "inputs": lambda: Scheme("input", ALL, Magnitude(), NOfM(2, 4), Variance()),
    "ranked by weights": lambda: Scheme("input", ALL, Wina(), TopK(0.5), LowRank(rank=4)),
    "outputs": lambda: Scheme(
        "output",
        FFN,
        Magnitude(),
        Threshold({word: {f"layer_{i}": 0.3 for i in range(2)} for word in FFN}),
        NoMitigation(),
    ),
    "weights": lambda: Scheme("weight", ALL, Magnitude(), NOfM(2, 4), NoMitigation()),
}
WINDOWS = token_windows(3, 20)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_tiny_model(save_tiny_model("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture
def spread(model):
    """The model with accelerate's hooks on each of its blocks, as if they were on devices of their own."""
    dispatch_model(model, dict.fromkeys(BLOCKS, "cpu"), main_device="cpu", force_hooks=True)
    assert all(hasattr(model.get_submodule(block), "_hf_hook") for block in BLOCKS)
    yield model
    remove_hook_from_submodules(model)


def evaluated(model, scheme) -> tuple:
    with sparsify(model, scheme) as applied:
        measured = measure_perplexity(model, WINDOWS)
    return measured["nll_per_window"], applied.realised_sparsity_per_site


@pytest.fixture(scope="module")
def expected(model):
    """What the model gives without hooks."""
    evaluations = {name: evaluated(model, make()) for name, make in SCHEMES.items()}
    return evaluations, measure_histograms(model, WINDOWS, FFN), measure_statistics(model, WINDOWS, ALL)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_spread_model_is_evaluated_alike(expected, spread, name):
    assert evaluated(spread, SCHEMES[name]()) == expected[0][name]


def test_a_spread_model_is_calibrated_alike(expected, spread):
    histograms = measure_histograms(spread, WINDOWS, FFN)
    assert all(torch.equal(histograms[word], expected[1][word]) for word in FFN)
    statistics = measure_statistics(spread, WINDOWS, ALL)
    for name, row in expected[2].items():
        assert all(torch.equal(statistics[name][what], tensor) for what, tensor in row.items())


def test_the_layers_of_a_spread_model_are_walked_through(spread):
    stages = [stage.run(0) for stage in walk_layers(spread, WINDOWS)]
    with torch.no_grad():
        hidden = spread.get_decoder()(input_ids=WINDOWS[:1], output_hidden_states=True).hidden_states
    assert torch.equal(spread.model.norm(stages[-1]), hidden[-1])


def test_counts_of_layers_on_different_devices_are_added(model):
    """The device of the first layer takes the counts of all; here it is one that holds no numbers."""
    (site, _) = find_sites(model, ["up_proj"], "output")
    codebook = Codebook(torch.full((1, 1, 2, 12), 255, dtype=torch.uint8), None, 96, [])
    pattern = CodebookPattern({"up_proj": {"layer_0": 0.3}}, {"up_proj": codebook})
    pattern.counts["up_proj"] = torch.zeros(8, dtype=torch.float64, device="meta")
    pattern.mask(torch.rand(5, 96), site)
    assert pattern.counts["up_proj"].is_meta


def test_a_model_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    """accelerate keeps what finds no room on a GPU in memory or on disk."""
    folder = tiny_llama(tmp_path / "model")
    fetch_model(str(folder), tmp_path / "unused", tmp_path / "model.json")
    load = AutoModelForCausalLM.from_pretrained
    half = dict.fromkeys(BLOCKS, "cpu") | {"model.layers.1": "disk"}
    monkeypatch.setattr(
        AutoModelForCausalLM,
        "from_pretrained",
        lambda *args, device_map, **options: load(
            *args, device_map=half, offload_folder=tmp_path / "offload", **options
        ),
    )
    with pytest.raises(ValueError, match=r"model.json: the model does not fit .*gpus_per_job"):
        load_model(tmp_path / "model.json", "float32", torch.device("cpu"))

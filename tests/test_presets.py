"""The neighbours: TEAL, CATS, WINA, R-Sparse."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from actsparse.calibration.greedy_search import levels_at, search_allocation
from actsparse.calibration.histograms import compute_thresholds, measure_histograms
from actsparse.jobs.files import write_json
from actsparse.kinds import KINDS
from actsparse.kinds.keys import EVERYTHING
from actsparse.kinds.presets import cats, r_sparse, teal, wina
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.top_k_table import TopKTable
from actsparse.methods.scorers.cats import Cats
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.methods.sparsity_table import read_sparsity_table
from actsparse.models.sites import find_sites
from actsparse.study.loading import ConfigError, load_study
from tiny_models import load_tiny_model, save_tiny_model, token_windows

ROOT = Path(__file__).parent.parent
WINDOWS = token_windows(4, 48, seed=7)


@pytest.fixture
def model(tmp_path):
    return load_tiny_model(save_tiny_model("llama", tmp_path / "model"))


def scheme_of(experiment, thresholds=None):
    params = dict(experiment)
    kind = KINDS[params.pop("method")].of(params)
    return kind.build(**({} if thresholds is None else {"thresholds": thresholds}))


@torch.inference_mode()
def run(model, scheme):
    with sparsify(model, scheme) as applied:
        logits = model(input_ids=WINDOWS).logits
    return logits, applied.realised_sparsity


def test_teal_uniform_and_greedy(model, tmp_path):
    histograms = measure_histograms(model, WINDOWS, EVERYTHING, side="input")
    uniform, greedy = tmp_path / "uniform.json", tmp_path / "greedy.json"
    write_json(uniform, compute_thresholds(histograms, 0.4))
    allocation = search_allocation(model, WINDOWS[:2], histograms, 0.4, step=0.1)
    write_json(greedy, compute_thresholds(histograms, levels_at(allocation, 0.4)))
    dense, _ = run(model, None)
    errors = []
    for thresholds in (uniform, greedy):
        logits, sparsity = run(model, scheme_of(teal(0.4), thresholds))
        assert 0.3 < sparsity < 0.5
        errors.append((logits - dense).norm())
    assert errors[1] < 1.1 * errors[0]


def test_a_search_passes_every_sparsity_on_its_way(model):
    histograms = measure_histograms(model, WINDOWS, EVERYTHING, side="input")
    allocation = search_allocation(model, WINDOWS[:1], histograms, 0.35, step=0.1)
    assert list(allocation) == ["layer_0", "layer_1"]
    for steps in allocation.values():
        assert [round(step["mean"], 6) for step in steps] == [0, 0.1, 0.2, 0.3, 0.4]
        for before, after in pairwise(steps):
            assert sum(before[word] != after[word] for word in EVERYTHING) == 1
    sizes = {
        (site.projection, f"layer_{site.layer}"): site.module.weight.numel()
        for site in find_sites(model, EVERYTHING, "input")
    }
    for sparsity in (0, 0.05, 0.1, 0.34):
        levels = levels_at(allocation, sparsity)
        for layer in allocation:
            spread = sum(levels[word][layer] * sizes[word, layer] for word in EVERYTHING)
            assert spread / sum(sizes[word, layer] for word in EVERYTHING) == pytest.approx(sparsity)
    with pytest.raises(ValueError, match=r"layer_0: the search ended at sparsity 0\.400, not 0\.5"):
        levels_at(allocation, 0.5)


def test_a_search_raises_first_what_costs_least(model):
    histograms = measure_histograms(model, WINDOWS, EVERYTHING, side="input")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()  # nothing before it in the FFN matters any more
    steps = search_allocation(model, WINDOWS[:1], histograms, 0.3, step=0.05)["layer_1"]
    assert all(steps[-1][word] == 0 for word in ("q_proj", "k_proj", "v_proj", "o_proj"))
    assert steps[-1]["mean"] > 0.3 - 1e-9


def test_cats_is_masking_the_activated_gate(model, tmp_path):
    thresholds = tmp_path / "thresholds.json"
    table = compute_thresholds(measure_histograms(model, WINDOWS, ["gate_proj"], scorer=Cats()), 0.5)
    write_json(thresholds, table)
    mlp, seen = model.model.layers[0].mlp, []
    scheme = scheme_of(cats(0.5), thresholds)
    with torch.no_grad(), sparsify(model, scheme) as applied:
        handle = mlp.down_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        inputs = mlp.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        model(input_ids=WINDOWS)
        handle.remove()
        inputs.remove()
    x, product = seen[:2]
    active = mlp.act_fn(mlp.gate_proj(x))
    expected = active * (active.abs() >= table["gate_proj"]["layer_0"]) * mlp.up_proj(x)
    torch.testing.assert_close(product, expected)
    assert applied.realised_sparsity == pytest.approx(0.5, abs=0.08)


def test_wina_and_r_sparse(model):
    dense, _ = run(model, None)
    for experiment in (wina(0.5), r_sparse(0.5, rank=8)):
        logits, sparsity = run(model, scheme_of(experiment))
        assert sparsity == 0.5 and not torch.equal(logits, dense)


def test_sparsity_from_a_table(model):
    table = {"up_proj": {"layer_0": 0.25, "layer_1": 0.75}}
    _, sparsity = run(model, Scheme("input", ("up_proj",), Magnitude(), TopKTable(table), NoMitigation()))
    assert sparsity == 0.5
    with pytest.raises(ValueError, match=r"down_proj: its sparsity in the table is None"):
        run(model, Scheme("input", ("down_proj",), Magnitude(), TopKTable(table), NoMitigation()))


def test_sparsity_from_a_file(model, tmp_path):
    (tmp_path / "levels.csv").write_text("layer, up_proj, down_proj\n0, 0.25, 0\n1, 0.75, 0.5\n")
    params = {"pattern": str(tmp_path / "levels.csv"), "projections": ["up_proj", "down_proj"]}
    for method in ("prune_activations", "prune_weights"):
        scheme = KINDS[method].of(params).build(sparsities=tmp_path / "levels.csv")
        with torch.inference_mode(), sparsify(model, scheme) as applied:
            model(input_ids=WINDOWS)
        assert list(applied.realised_sparsity_per_site.values()) == [0.25, 0, 0.75, 0.5]


BAD_TABLES = {
    "projection,0\n": "its first line must name the columns layer and projections",
    "layer,q_proj\n0,0.5\nzero,0.5\n": "line 3: layer 'zero' is not allowed",
    "layer,q_proj\n0,0.5\n0,0.5\n": "line 3: layer '0' is not allowed",
    "layer,q_proj\n0,1\n": "line 2, q_proj: '1' is not allowed (a sparsity from 0 to below 1)",
    "layer,q_proj,k_proj\n0,0.5\n": "line 2, k_proj: None is not allowed",
    "layer,q_proj\n0,half\n": "line 2, q_proj: 'half' is not allowed",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_bad_tables_are_told_in_one_line(tmp_path, text):
    (tmp_path / "levels.csv").write_text(text)
    with pytest.raises(ValueError) as error:
        read_sparsity_table(tmp_path / "levels.csv")
    assert BAD_TABLES[text] in str(error.value) and "levels.csv" in str(error.value)
    assert "\n" not in str(error.value)


def study_with(root, **experiment):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["experiments"] = {"mine": experiment}
    return load_study(config, ROOT / "rules/schemas/config.schema.yaml", root=root)


def test_a_table_has_to_fit_the_model(tmp_path):
    mine = {"method": "prune_activations", "pattern": "levels.csv", "projections": ["up_proj"]}
    with pytest.raises(ConfigError, match=r"mine\.pattern: no such file or folder: levels\.csv"):
        study_with(tmp_path, **mine)
    lines = [f"{layer},0.5" for layer in range(30)]
    (tmp_path / "levels.csv").write_text("\n".join(["layer,up_proj", *lines]))
    assert study_with(tmp_path, **mine).experiments["mine"].needs == {"sparsities": "levels.csv"}
    with pytest.raises(ConfigError, match=r"levels\.csv has no column for q_proj"):
        study_with(tmp_path, **mine | {"projections": ["up_proj", "q_proj"]})
    with pytest.raises(ConfigError, match=r"scorer sparsegpt does not go with pattern top_k_table"):
        study_with(tmp_path, method="prune_weights", pattern="levels.csv", scorer="sparsegpt")
    (tmp_path / "levels.csv").write_text("\n".join(["layer,up_proj", *lines[:-1]]))
    with pytest.raises(ConfigError, match=r"levels\.csv has no line for layer 29 of smollm2-135m"):
        study_with(tmp_path, **mine)
    assert study_with(tmp_path, **mine | {"layers": "0-28"})


def test_teal_in_a_config(tmp_path):
    experiment = study_with(tmp_path, preset="teal", sparsity=0.5, allocation="greedy").experiments["mine"]
    assert experiment.needs["thresholds"].name == "0.5-inputs-greedy"
    experiment = study_with(tmp_path, preset="teal", sparsity=0.5).experiments["mine"]
    assert experiment.needs["thresholds"].name == "0.5-inputs"
    with pytest.raises(ConfigError, match=r"mine\.allocation: 'best' is not allowed \(allowed: uniform"):
        study_with(tmp_path, preset="teal", sparsity=0.5, allocation="best")
    with pytest.raises(ConfigError, match=r"mine\.allocation: greedy shares .* \(allowed with preset teal\)"):
        study_with(tmp_path, method="threshold", sparsity=0.5, allocation="greedy")
    with pytest.raises(ConfigError, match=r"mine\.sparsity: 0\.995 is not allowed .* at most 0\.99"):
        study_with(tmp_path, preset="teal", sparsity=0.995, allocation="greedy")
    with pytest.raises(ConfigError, match=r"it takes sparsity, allocation if wanted, and nothing else"):
        study_with(tmp_path, preset="teal", allocation="greedy")

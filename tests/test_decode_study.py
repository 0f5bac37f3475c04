"""The benchmark decode: speed beside quality, in tables and figures; what cannot be executed is said."""

import csv
import json

import pytest
from actsparse.benchmarks import BENCHMARKS
from actsparse.errors import ConfigError
from tiny_study import CONFIG, make_study, run

TINY = {key: CONFIG[key] for key in ("study", "models", "corpora", "calibration", "perplexity")}
EXPERIMENTS = {
    "dense": {},
    "act": {"method": "prune_activations", "pattern": "8:16"},
    "random": {"method": "prune_activations", "pattern": 0.5, "scorer": "random"},
    "weight": {"method": "prune_weights", "pattern": "2:4"},
    "down": {"method": "threshold", "sparsity": 0.5, "projections": ["down_proj"]},
}
DECODE = {"prompt_tokens": 8, "new_tokens": 8, "repeats": 2}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    config = TINY | {"experiments": EXPERIMENTS, "decode": DECODE}
    folder = make_study(tmp_path_factory.mktemp("decode") / "tiny", config)
    run(folder)
    return folder


def record(study, experiment):
    return json.loads((study / f"results/tiny/evaluations/llama/{experiment}/decode.json").read_text())


def test_speed_stands_beside_quality(study):
    with (study / "results/tiny/tables/results.csv").open() as stream:
        rows = {row["experiment"]: row for row in csv.DictReader(stream)}
    assert all(float(rows[name]["perplexity"]) > 1 for name in EXPERIMENTS)
    assert float(rows["dense"]["ms_per_token"]) > 0 and rows["dense"]["decode_speedup"] == "1.0"
    assert float(rows["act"]["ms_per_token"]) > 0
    # Zeros were counted while perplexity was measured, not while zeros were skipped.
    assert rows["act"]["realised_sparsity"] == "0.5"
    for figure in ("perplexity_speed", "ms_per_token_ranking", "speed_executed"):
        assert (study / f"results/tiny/figures/{figure}.svg").exists()


def test_bytes_are_counted(study):
    dense, act = record(study, "dense"), record(study, "act")
    # 2 layers of 64 x (64 + 32 + 32 + 64) + 3 x 64 x 128, and an output layer of 512 x 64, in float32.
    layers, head = 2 * (64 * 192 + 3 * 64 * 128), 512 * 64
    assert dense["weight_bytes_per_token"] == 4 * (layers + head)
    assert act["weight_bytes_per_token"] == 4 * (layers / 2 + head)
    assert act["executed_sparsity"] == 0.5 and dense["executed_sparsity"] == 0.0


def test_what_is_not_skipped_says_why(study):
    weight, down = record(study, "weight"), record(study, "down")
    assert "zeros of weights" in weight["refused"] and weight["executed_sparsity"] == 0.0
    assert "outputs of down_proj are known after" in down["refused"]
    assert down["milliseconds"] == [None] * 3
    assert "realised_sparsity" not in down


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "decode: needs a text"),
        ({"perplexity": {"sequence_length": 100, "sequences": 4}}, "are 128, more than the 100"),
        (
            {"calibration": {"sequence_length": 200, "sequences": 1}},
            r"decode.batch: 2 is not allowed \(at most",
        ),
    ],
)
def test_bad_configs_are_refused(config, told):
    asked = {"prompt_tokens": 64, "new_tokens": 64, "batch": 2, "repeats": 1, "weights": "as_loaded"}
    with pytest.raises(ConfigError, match=told):
        BENCHMARKS["decode"].check(config | {"decode": asked})

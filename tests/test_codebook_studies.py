"""Studies of codebooks, from fitting to evaluation, and from given files to evaluation alone."""

import json

import numpy as np
import pytest
import torch
import yaml
from actsparse.jobs.files import read_json, sha256_of
from safetensors.torch import load_file
from tiny_study import CONFIG, make_study, planned, run

SMALL = {"method": "codebook", "threshold": 0.5, "clusters": 4, "centroid_sparsity": 0.25}
FITTED = {
    "plain": SMALL,
    "aware": {**SMALL, "algorithm": "activation_aware", "scope": "per_layer", "groups": [1, 2]},
    "alone": {**SMALL, "combine": "replace"},
    "routed": {**SMALL, "assignment": "router", "router_rank": 3},
    "routed_joint": {**SMALL, "assignment": "router", "router_rank": 3, "joint": True},
    "at_work": {**SMALL, "patterns_of": "thresholded"},
    "contributing": {
        **SMALL,
        "algorithm": "spherical",
        "patterns_of": "thresholded",
        "importance": "contribution",
        "allocation": "by_energy",
        "joint": [False, True],
    },
    "published": {**SMALL, "algorithm": "as_published", "as_published": True, "rows": "raw"},
    "averaged": {**SMALL, "algorithm": "as_published", "rows": "magnitudes"},
}
FOLDER = "results/tiny"
CODEBOOK = "coverage-pooled-t0.5-k4-s0.25"
FFN = ("gate", "up", "down")


def config(experiments, **changes):
    kept = {key: value for key, value in CONFIG.items() if key not in ("zero_shot", "tasks")}
    return kept | {"experiments": experiments} | changes


def record(study, experiment):
    return json.loads((study / f"{FOLDER}/evaluations/llama/{experiment}/perplexity.json").read_text())


def published_coverage(study):
    return record(study, "published")["coverage"]["gate_proj"]


def best_overlaps(patterns, codebook):
    """Recall and precision of gate's pooled centroids, from the bits in the files."""
    stored = load_file(patterns / "patterns_00000.safetensors")
    tokens = np.concatenate([stored[f"gate_proj.layer_{i}"].numpy() for i in range(2)])
    rows = np.unpackbits(tokens, axis=1).astype(int)
    centroids = np.unpackbits(load_file(codebook)["gate_proj"].numpy()[0, 0], axis=1).astype(int)
    shared = (rows @ centroids.T).max(1).sum()
    return shared / rows.sum(), shared / (len(rows) * centroids[0].sum())


def test_given_files_give_the_same_results_and_only_evaluation_runs(tmp_path):
    study = make_study(tmp_path, config(FITTED, codebooks=CONFIG["codebooks"] | {"held_out": True}))
    names = [
        "plain",
        "aware-g1",
        "aware-g2",
        "alone",
        "routed",
        "routed_joint",
        "at_work",
        "contributing-jointFalse",
        "contributing-jointTrue",
        "published",
    ]
    results = [f"{FOLDER}/evaluations/llama/{name}/perplexity.json" for name in names]
    run(study, *results, f"{FOLDER}/exports/llama/{CODEBOOK}")
    plain, alone, aware = record(study, "plain"), record(study, "alone"), record(study, "aware-g2")
    assert abs(alone["realised_sparsity"] - 0.25) < 0.02 < 0.4 < plain["realised_sparsity"]
    assert aware["coverage"]["up_proj"]["energy"] > aware["coverage"]["up_proj"]["recall"]

    assert 0.25 <= record(study, "routed")["coverage"]["gate_proj"]["accuracy"] <= 1
    # Up has no router of its own.
    joint = record(study, "routed_joint")["coverage"]
    assert joint["up_proj"]["accuracy"] == joint["gate_proj"]["accuracy"]
    assert not joint["up_proj"]["router_parameters"]
    assert 0.5 < plain["coverage"]["gate_proj"]["fitting_recall"] < 1

    counts = {
        name: load_file(study / f"{FOLDER}/patterns/llama/{name}/active_counts.safetensors")["down_proj"]
        for name in ("0.5", "0.5-thresholded")
    }
    assert not torch.equal(counts["0.5"], counts["0.5-thresholded"])
    assert record(study, "at_work")["value"] != plain["value"]
    found, joint = record(study, "contributing-jointFalse"), record(study, "contributing-jointTrue")
    assert found["value"] != joint["value"]
    assert found["params"]["importance"] == "contribution"
    assert 0.5 < found["coverage"]["up_proj"]["energy"] < 1

    # The patterns of the evaluation text, all of which the oracle gives its best of four centroids.
    held_out = study / f"{FOLDER}/patterns/llama/0.5-held_out"
    expected = best_overlaps(held_out, study / f"{FOLDER}/codebooks/llama/{CODEBOOK}.safetensors")
    found = plain["coverage"]["gate_proj"]
    assert (found["held_out_recall"], found["held_out_precision"]) == pytest.approx(expected, abs=1e-12)
    assert found["held_out_recall"] >= found["held_out_baseline_recall"] > 0.5
    assert found["held_out_energy"] != found["energy"]
    assert (found["index_bits"], found["centroid_mb"]) == (2, 4 * 128 / 8 / 2**20)
    assert aware["coverage"]["gate_proj"]["index_bits"] == 4
    assert not any(key.startswith("held_out") for key in published_coverage(study))

    # As published: fitted to the text that perplexity is measured on, the first window of it.
    published = record(study, "published")
    assert (published["windows"], plain["windows"]) == (1, 2)
    for patterns, text in (("0.5-thresholded-published", "perplexity"), ("0.5", "calibration")):
        identity = read_json(study / f"{FOLDER}/patterns/llama/{patterns}/manifest.json")["identity"]
        assert identity["thresholded"] == ("published" in patterns)
        assert identity["windows"] == sha256_of(study / f"{FOLDER}/windows/llama/{text}.safetensors")

    exported = sorted(path.name for path in (study / f"{FOLDER}/exports/llama/{CODEBOOK}").glob("*.pt"))
    assert exported == sorted(f"centroids_{word}_4_sparsity_25.pt" for word in FFN)
    files = {f"{w}_proj": f"{FOLDER}/exports/llama/{CODEBOOK}/centroids_{w}_4_sparsity_25.pt" for w in FFN}
    (study / f"{FOLDER}/thresholds/llama/0.5.json").rename(study / "thresholds.json")
    (study / f"{FOLDER}/patterns/llama/0.5").rename(study / "patterns")
    model = {
        **CONFIG["models"]["llama"],
        "thresholds": {"0.5": "thresholds.json"},
        "patterns": {"0.5": "patterns"},
    }
    given = {**SMALL, "centroids": files}
    again = {"given": given, "refitted": {**SMALL, "clusters": 3}}
    again["routed"] = {**given, "assignment": "router", "patterns_of": ["dense", "thresholded"]}
    (study / "config.yaml").write_text(yaml.safe_dump(config(again, models={"llama": model})))
    names = ("given", "refitted", "routed-dense", "routed-thresholded")
    results = [f"{FOLDER}/evaluations/llama/{name}/perplexity.json" for name in names]
    expected = {"import_centroids", "fit_codebook", "evaluate"}
    assert planned(study, *results[:2]) == expected
    run(study, results[0], *results[2:])
    given = record(study, "given")
    assert given["value"] == plain["value"]
    assert given["coverage"]["gate_proj"]["recall"] == plain["coverage"]["gate_proj"]["recall"]

    # In the thresholded model routers see, from the first down on, what thresholds have left.
    dense, thresholded = (
        load_file(path) for path in sorted((study / f"{FOLDER}/routers/llama").glob("given-*"))
    )
    assert torch.equal(dense["gate_proj.layer_0.bias"], thresholded["gate_proj.layer_0.bias"])
    for name in ("down_proj.layer_0.bias", "gate_proj.layer_1.bias"):
        assert not torch.equal(dense[name], thresholded[name])

"""Result files of a study that never ran: every method, plausible numbers, made without torch."""

import math
import random
from pathlib import Path

import numpy as np
from actsparse.jobs.files import write_json
from safetensors.numpy import save_file
from summarise_patterns import summarise

LAYERS, WIDTH, TOKENS = 6, 64, 1000
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
TASKS = ("boolq", "piqa")
DENSE = 10.0
TEXT = {"corpus": "text", "split": "test", "sequence_length": 2048, "sequences": 10}
# A validated config, as far as reports look at one.
CONFIG = {
    "seed": 42,
    "models": {"smol": {"source": "hf://some/smol"}},
    "corpora": {"text": {"source": "text.txt"}},
    "perplexity": TEXT,
    "zero_shot": {"tasks": list(TASKS), "limit": 100, "num_fewshot": 0, "apply_chat_template": False},
}


def experiments() -> dict[str, tuple[str, dict, float, float]]:
    """Return {experiment: (method, params, realised sparsity, perplexity)}, shaped like the default study."""
    found = {"dense": ("dense", {}, 0.0, DENSE)}
    for sparsity, worse in ((0.3, 1.02), (0.5, 1.2)):
        found[f"threshold-{sparsity}"] = ("threshold", {"sparsity": sparsity}, sparsity, DENSE * worse)
    for clusters in (64, 256, 1024):
        for left_out in (0.2, 0.3, 0.4):
            params = {
                "threshold": 0.5,
                "clusters": clusters,
                "centroid_sparsity": left_out,
                "algorithm": "coverage",
                "scope": "pooled",
            }
            lost = left_out * (1 - math.log2(clusters) / 16)
            slug = f"codebook-k{clusters}-s{left_out}"
            found[slug] = ("codebook", params, 0.5 + lost / 4, DENSE * (1.2 + 2 * lost))
    for pattern, worse in (("2:4", 2.0), ("4:8", 1.7), ("8:16", 1.6), ("16:32", 1.55), (0.5, 1.4)):
        params = {"pattern": pattern, "scorer": "magnitude", "mitigation": "none"}
        found[f"act-{str(pattern).replace(':', 'of')}"] = ("prune_activations", params, 0.5, DENSE * worse)
    for pattern, worse in (("2:4", 60.0), ("8:16", 20.0)):
        params = {"pattern": pattern, "scorer": "magnitude"}
        found[f"weight-{pattern.replace(':', 'of')}"] = ("prune_weights", params, 0.5, DENSE * worse)
    return found


def make_results(folder: Path, model: str = "smol", commit: str = "0" * 40) -> Path:
    """Write evaluations, thresholds, pattern stores (counts only) and benchmark files; return `folder`."""
    draw = random.Random(1)
    for slug, (method, params, sparsity, perplexity) in experiments().items():
        base = {
            "model": model,
            "experiment": slug,
            "method": method,
            "params": params,
            "realised_sparsity": sparsity,
            "replaced_linear_layers": 0 if method == "dense" else 7 * LAYERS,
            "replaced_linear_layers_as_published": 0 if method == "dense" else 7 * LAYERS,
            "seconds": draw.uniform(10, 60),
            "peak_memory_mb": draw.uniform(900, 2000),
            "versions": {"torch": "2.0"},
            "git_commit": commit,
        }
        if method == "codebook":
            recall = 0.95 - params["centroid_sparsity"] * (1.2 - math.log2(params["clusters"]) / 16)
            base["coverage"] = {
                projection: {
                    "recall": recall - i / 50,
                    "precision": recall / 2,
                    "energy": recall + 0.02,
                    "baseline_recall": 0.95 - 1.1 * params["centroid_sparsity"] - i / 50,
                }
                for i, projection in enumerate(PROJECTIONS)
            }
        accuracy = 0.35 + 0.4 / (1 + math.log(perplexity / DENSE))
        tasks = {
            task: {"items": 100, "acc": {"value": accuracy + i / 20, "stderr": 0.04}}
            for i, task in enumerate(TASKS)
        }
        results = folder / "evaluations" / model / slug
        write_json(
            results / "perplexity.json",
            base | {"benchmark": "perplexity", "value": perplexity, "stderr": perplexity / 20},
        )
        write_json(results / "zero_shot.json", base | {"benchmark": "zero_shot", "tasks": tasks})
    for sparsity in (0.3, 0.5):
        values = {
            p: {f"layer_{i}": sparsity * (i + 1) / (1 + 9 * j) for i in range(LAYERS)}
            for j, p in enumerate(PROJECTIONS)
        }
        write_json(folder / "thresholds" / model / f"{sparsity}.json", values)
    write_counts(folder / "patterns" / model / "0.5")
    summarise(folder / "patterns" / model / "0.5", folder / "active_neurons" / model / "0.5.json")
    _write_benchmarks(folder / "benchmarks", model, draw)
    return folder


def files(folder: Path) -> dict[str, list[Path]]:
    """Return results, thresholds and active neurons of a results folder, in the order of the experiments."""
    order = list(experiments())
    results = sorted(folder.glob("evaluations/*/*/*.json"), key=lambda path: order.index(path.parent.name))
    return {
        "results": results,
        "thresholds": sorted(folder.glob("thresholds/*/*.json")),
        "active": sorted(folder.glob("active_neurons/*/*.json")),
    }


def write_counts(store: Path) -> None:
    """Write what is read of a pattern store: its counts and manifest."""
    store.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    counts = {p: drawn.binomial(TOKENS, drawn.beta(2, 2, (LAYERS, WIDTH))) for p in PROJECTIONS}
    save_file(counts, store / "active_counts.safetensors")
    manifest = {
        "counted_tokens": TOKENS,
        "widths": dict.fromkeys(PROJECTIONS, WIDTH),
        "active": {"file": "active_counts.safetensors"},
    }
    write_json(store / "manifest.json", manifest)


def _write_benchmarks(folder: Path, model: str, draw: random.Random) -> None:
    for rule, seconds in (("measure_histograms", 30), ("fit_codebook", 90), ("evaluate_perplexity", 40)):
        for job in range(4):
            path = folder / rule / model / f"{job}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            measured = f"{seconds * draw.uniform(0.5, 2):.2f}\t0:00:30\t{draw.uniform(500, 1500):.2f}"
            path.write_text(f"s\th:m:s\tmax_rss\n{measured}\n")

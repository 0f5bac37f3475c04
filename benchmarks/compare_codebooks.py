"""Compare codebooks on the default study's model: the tables of docs/codebooks.md.

    python benchmarks/compare_codebooks.py [--folder F] [--only ROW ...] [--tokens T] [--windows N] [--seed S]

Fits each codebook to patterns of 8 x 2,048 calibration tokens, at 50 % thresholds on gate, up and down of all
layers, and measures it on held-out text: what it covers on T tokens, perplexity on N windows of 2,048 tokens,
evenly spaced. Results are kept in F/<name>.json; what is there is not measured again. Prints the table as
Markdown and, as the last line, one JSON object of perplexities.
"""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from tabulate import tabulate
from torch import Tensor
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.calibration.histograms import compute_thresholds, measure_histograms
from actsparse.codebooks.allocation import sparsities
from actsparse.codebooks.codebook import Codebook, load_codebooks, save_codebooks
from actsparse.codebooks.extraction import extract_patterns
from actsparse.codebooks.fit import fit_codebook, fitting_tokens
from actsparse.codebooks.pattern import CodebookPattern, Signed
from actsparse.codebooks.pattern_store import MANIFEST, PatternStore, PatternWriter
from actsparse.codebooks.quality import measure
from actsparse.evaluation.perplexity import measure_perplexity
from actsparse.jobs.devices import use_threads
from actsparse.jobs.files import digest_of, read_json, write_json
from actsparse.kinds import KINDS
from actsparse.methods.sparsify import sparsify
from actsparse.methods.thresholds import load_thresholds, save_thresholds
from actsparse.models.loading import load_model
from actsparse.models.sites import find_sites
from actsparse.models.windows import load_windows, make_windows, save_windows

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "resources/models/smollm2-135m.json"
CORPUS = ROOT / "resources/corpora/wikipedia"
FFN = ["gate_proj", "up_proj", "down_proj"]
WINDOWS = {"train": 8, "test": 2}  # how many, by split; evenly spaced
# What follows the split of patterns: of the model with its thresholds at work, weighed by contribution.
THRESHOLDED, CONTRIBUTION = "-thresholded", "-contribution"
LENGTH = 2048

DEFAULTS = {
    "clusters": 1024,
    "centroid_sparsity": 0.2,
    "algorithm": "coverage",
    "scope": "pooled",
    "patterns": 2**30,
    "steps": 10,
    "seed": 42,
}
LAYERED = {"scope": "per_layer"}
AWARE = {"algorithm": "activation_aware"}
SPHERICAL = {"algorithm": "spherical", "steps": 5}
PRODUCT = {**LAYERED, "clusters": 256, "patterns": 30 * 4096}  # and without groups beside it
AT_WORK = {"patterns_of": "thresholded"}
CONTRIBUTING = {**AT_WORK, "importance": "contribution"}
# On equal rows and K: what libraries can be given in reasonable time.
EQUAL = {"clusters": 256, "patterns": 30 * 512}
BASELINES = (
    "kmeans",
    "mini_batch_kmeans",
    "faiss",
    "binary_kmeans",
    "penalised",
    "as_published",
    "mini_batch",
)
VARIANTS: dict[str, dict] = {
    "single": {**LAYERED, "clusters": 1},
    "coverage, pooled": {},
    "activation_aware, pooled": {**AWARE},
    "coverage, per layer": {**LAYERED},
    "activation_aware, per layer": {**LAYERED, **AWARE},
    "spherical, pooled": {**SPHERICAL},
    "spherical, per layer": {**LAYERED, **SPHERICAL},
    "coverage, per layer, K = 256": {**PRODUCT},
    "activation_aware, per layer, K = 256": {**PRODUCT, **AWARE},
    "activation_aware, per layer, K = 256, at work": {**PRODUCT, **AWARE, **AT_WORK},
    "spherical, per layer, K = 256": {**PRODUCT, **SPHERICAL},
    "spherical, per layer, K = 256, at work": {**PRODUCT, **SPHERICAL, **AT_WORK},
    "spherical, per layer, at work": {**LAYERED, **SPHERICAL, **AT_WORK},
    "spherical, per layer, at work, replace": {**LAYERED, **SPHERICAL, **AT_WORK},
    "single, contribution": {**LAYERED, **SPHERICAL, **CONTRIBUTING, "clusters": 1},
    "activation_aware, per layer, K = 256, contribution": {**PRODUCT, **AWARE, **CONTRIBUTING},
    "spherical, per layer, K = 256, contribution": {**PRODUCT, **SPHERICAL, **CONTRIBUTING},
    "spherical, per layer, contribution": {**LAYERED, **SPHERICAL, **CONTRIBUTING},
    "spherical, per layer, contribution, replace": {**LAYERED, **SPHERICAL, **CONTRIBUTING},
    "spherical, pooled, contribution": {**SPHERICAL, **CONTRIBUTING},
    "8 groups of 256": {**PRODUCT, **AWARE, **AT_WORK, "groups": 8},
    "16 groups of 256": {**PRODUCT, **AWARE, **AT_WORK, "groups": 16},
    "32 groups of 256": {**PRODUCT, **AWARE, **AT_WORK, "groups": 32},
    "16 groups of 256, spherical": {**PRODUCT, **SPHERICAL, **AT_WORK, "groups": 16},
    "8 groups of 256, contribution": {**PRODUCT, **AWARE, **CONTRIBUTING, "groups": 8},
    "16 groups of 256, contribution": {**PRODUCT, **AWARE, **CONTRIBUTING, "groups": 16},
    "32 groups of 256, contribution": {**PRODUCT, **AWARE, **CONTRIBUTING, "groups": 32},
    "16 groups of 256, of dense patterns": {**PRODUCT, **AWARE, "groups": 16},
    "as_published, pooled": {"algorithm": "as_published"},
    "coverage (equal rows)": {**EQUAL},
    "spherical (equal rows)": {
        **EQUAL,
        **SPHERICAL,
        "steps": 10,
        "options": {"update_power": 0, "assign_power": 0},
    },
    **{f"{algorithm} (equal rows)": {**EQUAL, "algorithm": algorithm} for algorithm in BASELINES},
    **{
        f"coverage, {name} (equal rows)": {**EQUAL, "options": options}
        for name, options in {
            "kmeans++": {"seeding": "kmeans++"},
            "stratified": {"seeding": "stratified"},
            "balanced": {"balanced": True},
            "warm_up": {"warm_up": 10},
        }.items()
    },
}
COMBINE = {
    "spherical, per layer, at work, replace": "replace",
    "spherical, per layer, contribution, replace": "replace",
}
CONTRIBUTED, JOINT = ", contribution", ", joint"  # the same codebooks; at work up takes the centroid of gate
BY_ENERGY = ", by energy"
for name, spec in list(VARIANTS.items()):
    if name.endswith(CONTRIBUTED):
        joint = name.removesuffix(CONTRIBUTED) + JOINT
        VARIANTS |= {joint: spec, joint + BY_ENERGY: {**spec, "allocation": "by_energy"}}
THRESHOLDS = {f"thresholds {share:g}": share for share in (0.5, 0.53, 0.55, 0.57, 0.6)}
NAMES = ["dense", *THRESHOLDS, *VARIANTS]


def windows_of(folder: Path, split: str, count: int) -> Tensor:
    """Return `count` evenly spaced windows of a split, cutting them the first time."""
    path = folder / f"{split}-{count}.safetensors"
    if not path.exists():
        tokenizer = AutoTokenizer.from_pretrained(MODEL.with_suffix(""))
        texts = pd.read_parquet(CORPUS / f"{split}.parquet")["text"].tolist()
        save_windows(path, *make_windows(tokenizer, texts, LENGTH, count))
    return load_windows(path)[0]


def thresholds_of(folder: Path, name: str) -> Path:
    """Return the file of a row's thresholds, measuring all rows' the first time."""
    if not (folder / max(THRESHOLDS) / "values.json").exists():
        model = load_model(MODEL, "float32", torch.device("cpu"))
        histograms = measure_histograms(model, windows_of(folder, "train", WINDOWS["train"]), FFN)
        for row, share in THRESHOLDS.items():
            save_thresholds(compute_thresholds(histograms, share), folder / row / "values.json")
    return folder / (name if name in THRESHOLDS else "thresholds 0.5") / "values.json"


def store_of(folder: Path, split: str) -> PatternStore:
    """Return the patterns of a split and kind, extracting them the first time."""
    text = split.partition("-")[0]
    if not (folder / split / MANIFEST).exists():
        thresholds = load_thresholds(thresholds_of(folder, ""))
        model = load_model(MODEL, "float32", torch.device("cpu"))
        sites = find_sites(model, FFN, "output")
        layers, widths = 1 + max(site.layer for site in sites), {s.projection: s.width for s in sites}
        about = {"identity": {"split": split}, "layers": layers, "widths": widths}
        with PatternWriter(folder / split, **about, magnitudes="uint8") as writer:
            windows = windows_of(folder, text, WINDOWS[text])
            importance = "contribution" if CONTRIBUTION in split else "magnitude"
            extract_patterns(model, windows, thresholds, writer, THRESHOLDED in split, importance)
    return PatternStore(folder / split)


def kind_of(spec: dict) -> str:
    """Return what follows a split in the name of the patterns that a variant is fitted to and measured on."""
    contributing = spec.get("importance") == "contribution"
    return THRESHOLDED * (spec.get("patterns_of") == "thresholded") + CONTRIBUTION * contributing


def fitted(folder: Path, spec: dict) -> tuple[dict[str, Codebook], float]:
    """Return the codebooks of a variant, from their file if it is there, and the CPU seconds of the fit."""
    path = folder / f"{digest_of(spec)[:12]}.safetensors"
    if path.exists():
        codebooks, stored = load_codebooks(path)
        return codebooks, stored["seconds"]
    store = store_of(folder, "train" + kind_of(spec))
    others = ("patterns_of", "importance", "allocation")
    arguments = {key: value for key, value in spec.items() if key not in others}
    start = time.process_time()
    asked = {key: spec[key] for key in ("centroid_sparsity", "algorithm", "patterns")}
    shares = sparsities(store, spec.get("allocation", "uniform"), **asked)
    codebooks = {p: fit_codebook(store, p, **arguments | {"centroid_sparsity": shares[p]}) for p in FFN}
    seconds = time.process_time() - start
    save_codebooks(path, codebooks, {"spec": spec, "seconds": seconds})
    return codebooks, seconds


def coverage(folder: Path, spec: dict, most: int) -> dict:
    """Return what a codebook covers of at most so many fitting and held-out tokens, and what it costs."""
    codebooks, seconds = fitted(folder, spec)
    row = {"spec": spec, "seconds": seconds, "bits": codebooks["gate_proj"].index_bits}
    row["mb"] = sum(book.centroids.nbytes for book in codebooks.values()) / 2**20
    train, test = (store_of(folder, split + kind_of(spec)) for split in WINDOWS)
    row["tokens"] = fitting_tokens(train, spec["patterns"])
    for split, store, tokens in (("train", train, min(most, row["tokens"])), ("test", test, most)):
        row[split] = {p: vars(measure(store, p, book, tokens)) for p, book in codebooks.items()}
    return row


def perplexity(folder: Path, name: str, windows: int) -> dict:
    """Return the perplexity on so many held-out windows, that of each, and the realised sparsity."""
    scheme = None
    if name != "dense":
        path = thresholds_of(folder, name)
        scheme = KINDS["threshold"].of({"projections": FFN}).build(thresholds=path)
        if name in VARIANTS:
            codebooks, _ = fitted(folder, DEFAULTS | VARIANTS[name])
            combine, joint = COMBINE.get(name, "and"), JOINT in name
            pattern = CodebookPattern(load_thresholds(path), codebooks, combine, joint=joint)
            scheme = replace(scheme, scorer=Signed(), pattern=pattern)
    model = load_model(MODEL, "float32", torch.device("cpu"))
    with sparsify(model, scheme) as applied:
        found = measure_perplexity(model, windows_of(folder, "test", windows))
    return {
        "value": found["value"],
        "each": [math.exp(nll) for nll in found["nll_per_window"]],
        "sparsity": applied.realised_sparsity,
        # Of the model at work, whose earlier layers are masked too.
        **(scheme.pattern.measured() if name in VARIANTS else {}),
    }


def compare(folder: Path, name: str, tokens: int, windows: int) -> dict:
    """Measure a row, without perplexity if `windows` is 0, as far as it is not there."""
    path = folder / f"{name}.json"
    row = read_json(path) if path.exists() else {"name": name}
    if name in VARIANTS and row.get("spec") != DEFAULTS | VARIANTS[name]:
        row = {"name": name} | coverage(folder, DEFAULTS | VARIANTS[name], tokens)
        write_json(path, row)
    if windows and f"{windows} windows" not in row:
        row[f"{windows} windows"] = perplexity(folder, name, windows)
        write_json(path, row)
    return row


def shown(row: dict, windows: int) -> list[str]:
    """Return a row of the table: figures of gate / up / down in percent."""
    found = row.get(f"{windows} windows")

    def percent(split: str, key: str) -> str:
        return " / ".join(f"{100 * row[split][p][key]:.1f}" for p in FFN) if split in row else ""

    return [
        row["name"],
        f"{row['tokens']:,}" if "tokens" in row else "",
        percent("test", "recall"),
        percent("train", "recall"),
        percent("test", "precision"),
        percent("test", "energy"),
        f"{found['value']:.1f}" if found else "",
        f"{100 * found['sparsity']:.1f}" if found else "",
        str(row.get("bits", "")),
        f"{row['mb']:.1f}" if "mb" in row else "",
        f"{row['seconds']:.0f}" if "seconds" in row else "",
    ]


HEADERS = [
    "codebook",
    "fitting tokens",
    "held-out recall",
    "fitting recall",
    "precision",
    "energy kept",
    "perplexity",
    "sparsity",
    "bits",
    "MB",
    "CPU s",
]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results/codebook_comparison")
    parser.add_argument(
        "--only", nargs="*", choices=NAMES, default=NAMES, metavar="ROW", help="names of the rows"
    )
    parser.add_argument("--tokens", type=int, default=4096, help="of which coverage is measured")
    parser.add_argument(
        "--windows", type=int, default=2, help="on which perplexity is measured; 0: it is not"
    )
    parser.add_argument("--seed", type=int, default=DEFAULTS["seed"], help="of the fits")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    DEFAULTS["seed"] = arguments.seed
    arguments.folder = arguments.folder.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)  # the model's manifest has paths relative to it
    rows = []
    for name in arguments.only:
        rows.append(compare(arguments.folder, name, arguments.tokens, arguments.windows))
        print(shown(rows[-1], arguments.windows), flush=True)
    table = [shown(row, arguments.windows) for row in rows]
    print(tabulate(table, HEADERS, tablefmt="github", disable_numparse=True))
    values = {row["name"]: row.get(f"{arguments.windows} windows", {}).get("value") for row in rows}
    print(json.dumps(values))

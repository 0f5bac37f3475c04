"""Compare codebooks on the default study's model: the tables of docs/codebooks.md.

    python benchmarks/compare_codebooks.py [--folder F] [--only WORD ...] [--no-perplexity]

Fits each codebook to the patterns of 8 x 2,048 calibration tokens, at 50 % thresholds on gate, up and down of
all layers, and measures it on 2 x 2,048 held-out tokens. Results are kept in F/<name>.json; what is there is
not measured again. Prints the table as Markdown and, as the last line, one JSON object of perplexities.
"""

import argparse
import json
import math
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from tabulate import tabulate
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.codebooks.codebook import Codebook, load_codebooks, save_codebooks
from actsparse.codebooks.fit import fit_codebook
from actsparse.codebooks.quality import measure
from actsparse.devices import use_threads
from actsparse.evaluation.perplexity import measure_perplexity
from actsparse.extraction import extract_patterns
from actsparse.files import read_json, write_json
from actsparse.histograms import measure_histograms
from actsparse.models import load_model
from actsparse.pattern_store import MANIFEST, PatternStore, PatternWriter
from actsparse.patterns.codebook import CodebookPattern
from actsparse.schemes import build_scheme
from actsparse.sites import find_sites
from actsparse.sparsify import sparsify
from actsparse.thresholds import compute_thresholds, load_thresholds, save_thresholds
from actsparse.windows import load_windows, make_windows, save_windows

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "resources/models/smollm2-135m.json"
CORPUS = ROOT / "resources/corpora/wikipedia"
FFN = ["gate_proj", "up_proj", "down_proj"]
WINDOWS = {"train": 8, "test": 2}  # how many, by split; evenly spaced
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
# Pooled codebooks are fitted to an eighth of the tokens; they have thirty times as many patterns.
POOLED = {"patterns": 30 * 2048}
LAYERED = {"scope": "per_layer"}
AWARE = {"algorithm": "activation_aware"}
PRODUCT = {**LAYERED, **AWARE, "clusters": 256, "patterns": 30 * 4096}
EQUAL = {"clusters": 256, "patterns": 30 * 256}
VARIANTS: dict[str, dict] = {
    "thresholds alone": {},
    "single": {**LAYERED, "clusters": 1},
    "coverage-pooled": {**POOLED},
    "aware-pooled": {**POOLED, **AWARE},
    "coverage-layered": {**LAYERED},
    "aware-layered": {**LAYERED, **AWARE},
    "as-published": {**POOLED, "algorithm": "as_published"},
    "mini-batch-pooled": {**POOLED, "algorithm": "mini_batch"},
    "stratified-pooled": {**POOLED, "options": {"seeding": "stratified"}},
    "kmeans++-pooled": {**POOLED, "options": {"seeding": "kmeans++"}},
    "product 8 x 256": {**PRODUCT, "groups": 8},
    "product 16 x 256": {**PRODUCT, "groups": 16},
    "product 32 x 256": {**PRODUCT, "groups": 32},
    # On equal rows and K: what libraries can be given in reasonable time.
    **{
        f"{algorithm} (256)": {**EQUAL, "algorithm": algorithm}
        for algorithm in ("coverage", "kmeans", "mini_batch_kmeans", "binary_kmeans", "penalised")
    },
}


def prepare(folder: Path) -> None:
    """Cut the windows, measure the thresholds and store the patterns, unless that is done."""
    if (folder / "test" / MANIFEST).exists():
        return
    tokenizer = AutoTokenizer.from_pretrained(MODEL.with_suffix(""))
    model = load_model(MODEL, "float32", torch.device("cpu"), False)
    for split, count in WINDOWS.items():
        texts = pd.read_parquet(CORPUS / f"{split}.parquet")["text"].tolist()
        windows, info = make_windows(tokenizer, texts, LENGTH, count)
        save_windows(folder / f"{split}.safetensors", windows, info)
    train, _ = load_windows(folder / "train.safetensors")
    save_thresholds(
        compute_thresholds(measure_histograms(model, train, FFN), 0.5), folder / "thresholds.json"
    )
    thresholds = load_thresholds(folder / "thresholds.json")
    sites = find_sites(model, FFN, "output")
    layers, widths = 1 + max(site.layer for site in sites), {site.projection: site.width for site in sites}
    for split in WINDOWS:
        windows, _ = load_windows(folder / f"{split}.safetensors")
        with PatternWriter(folder / split, {"split": split}, layers, widths, magnitudes="uint8") as writer:
            extract_patterns(model, windows, thresholds, writer)


def fitted(folder: Path, name: str, spec: dict) -> tuple[dict[str, Codebook], float]:
    """Return the codebooks of a variant, from its file if it has one, and the seconds they took to fit."""
    path = folder / f"{name}.safetensors"
    if path.exists():
        codebooks, stored = load_codebooks(path)
        if stored["spec"] == spec:
            return codebooks, stored["seconds"]
    store = PatternStore(folder / "train")
    start = time.perf_counter()
    codebooks = {projection: fit_codebook(store, projection, **spec) for projection in FFN}
    seconds = time.perf_counter() - start
    save_codebooks(path, codebooks, {"spec": spec, "seconds": seconds})
    return codebooks, seconds


def perplexity(folder: Path, codebooks: dict[str, Codebook] | None) -> dict:
    """Return perplexity and realised sparsity on the held-out windows; of the thresholds alone for None."""
    model = load_model(MODEL, "float32", torch.device("cpu"), False)
    windows, _ = load_windows(folder / "test.safetensors")
    scheme = build_scheme("threshold", {"projections": FFN}, folder / "thresholds.json", None)
    if codebooks:
        pattern = CodebookPattern(load_thresholds(folder / "thresholds.json"), codebooks)
        scheme = replace(scheme, pattern=pattern)
    with sparsify(model, scheme) as applied:
        start = time.perf_counter()
        found = measure_perplexity(model, windows)
    return {
        "perplexity": found["value"],
        "sparsity": applied.realised_sparsity,
        "evaluation_seconds": time.perf_counter() - start,
    }


def compare(folder: Path, name: str, with_perplexity: bool) -> dict:
    """Measure a variant and return its row."""
    path = folder / f"{name}.json"
    row = read_json(path) if path.exists() else {}
    if name == "thresholds alone":
        row = row or {"name": name, **perplexity(folder, None)}
        write_json(path, row)
        return row
    spec = DEFAULTS | VARIANTS[name]
    if row.get("spec") != spec:
        codebooks, seconds = fitted(folder, name, spec)
        row = {"name": name, "spec": spec, "fit_seconds": seconds, "bits": codebooks["gate_proj"].index_bits}
        row["memory_mb"] = sum(book.centroids.nbytes for book in codebooks.values()) / 2**20
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        for split in WINDOWS:
            store = PatternStore(folder / split)
            tokens = WINDOWS["test"] * LENGTH
            row[split] = {p: vars(measure(store, p, book, tokens)) for p, book in codebooks.items()}
        write_json(path, row)
    if with_perplexity and "perplexity" not in row:
        row |= perplexity(folder, fitted(folder, name, spec)[0])
        write_json(path, row)
    return row


def shown(row: dict) -> list[str]:
    """Return a row of the table: figures of gate / up / down in percent."""

    def percent(split: str, key: str) -> str:
        return " / ".join(f"{100 * row[split][p][key]:.1f}" for p in FFN) if split in row else ""

    return [
        row["name"],
        percent("test", "recall"),
        percent("train", "recall"),
        percent("test", "precision"),
        percent("test", "energy"),
        f"{row['perplexity']:.1f}" if "perplexity" in row else "",
        f"{100 * row['sparsity']:.1f}" if "sparsity" in row else "",
        str(row.get("bits", "")),
        f"{row['memory_mb']:.1f}" if "memory_mb" in row else "",
        f"{row['fit_seconds']:.0f}" if "fit_seconds" in row else "",
    ]


HEADERS = [
    "codebook",
    "held-out recall",
    "fitting recall",
    "precision",
    "energy kept",
    "perplexity",
    "sparsity",
    "bits",
    "MB",
    "fit s",
]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results/codebook_comparison")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="names of the codebooks")
    parser.add_argument("--no-perplexity", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    prepare(arguments.folder)
    rows = []
    for name in arguments.only:
        rows.append(compare(arguments.folder, name, not arguments.no_perplexity))
        print(shown(rows[-1]), flush=True)
    print(tabulate([shown(row) for row in rows], HEADERS, tablefmt="github", disable_numparse=True))
    print(json.dumps({row["name"]: row.get("perplexity", math.nan) for row in rows}))

"""Compare routers with the oracle and with predictors of single neurons: a table of docs/codebooks.md.

    python benchmarks/compare_routers.py [--folder F] [--clusters K] [--every N] [--perplexity]

Works in the folder of compare_codebooks.py. For gate and up of every N-th layer: a codebook of K weighted
centroids (20 % sparse) is fitted, routers are trained on 8,192 calibration tokens, and what 4,096 held-out
tokens keep of their activation is measured. With --perplexity, all layers are routed in the model itself.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.codebooks.codebook import ones_in_centroid
from actsparse.codebooks.fit import fit_codebook
from actsparse.codebooks.predictors import equal_cost_rank, low_rank_masks, svd_masks, train_low_rank
from actsparse.codebooks.router import train_router
from actsparse.codebooks.routing import block_inputs, covered_by_codebook, site_magnitudes
from actsparse.devices import use_threads
from actsparse.evaluation.perplexity import measure_perplexity
from actsparse.files import write_json
from actsparse.models import load_model
from actsparse.packing import unpack
from actsparse.pattern_store import PatternStore
from actsparse.patterns.codebook import CodebookPattern
from actsparse.schemes import build_scheme
from actsparse.sites import find_sites
from actsparse.sparsify import sparsify
from actsparse.thresholds import load_thresholds
from actsparse.windows import load_windows
from compare_codebooks import MODEL, ROOT, replace

PROJECTIONS = ["gate_proj", "up_proj"]
SPARSITY, RANK, EPOCHS = 0.2, 32, 10


def quality(mask: torch.Tensor, magnitudes: torch.Tensor) -> list[float]:
    """Return recall, precision and the share of activation kept of masks, bool (n, D)."""
    active = magnitudes > 0
    both = (mask & active).sum()
    kept = torch.where(mask, magnitudes, 0).sum() / magnitudes.sum()
    return [float(both / active.sum()), float(both / mask.sum()), float(kept)]


def compare(folder: Path, clusters: int, every: int, with_perplexity: bool) -> dict:
    """Return {projection: {predictor: [recall, precision, energy, accuracy, multiply-adds of the FFN]}}."""
    model = load_model(MODEL, "float32", torch.device("cpu"), False)
    thresholds = load_thresholds(folder / "thresholds.json")
    train, test = (load_windows(folder / f"{split}.safetensors")[0] for split in ("train", "test"))
    sites = find_sites(model, PROJECTIONS, "output")
    before, after = block_inputs(model, train[::2], sites), block_inputs(model, test, sites)
    store = PatternStore(folder / "train")
    options = {"clusters": clusters, "centroid_sparsity": SPARSITY, "algorithm": "activation_aware"}
    fitting = {"scope": "per_layer", "patterns": 30 * 4096, "steps": 10, "seed": 42}
    codebooks = {p: fit_codebook(store, p, **options, **fitting) for p in PROJECTIONS}
    found: dict[str, dict[str, list]] = {p: {} for p in PROJECTIONS}
    routers = {}
    for site in sites:
        if site.layer % every and not with_perplexity:
            continue
        codebook, layer = codebooks[site.projection], site.layer
        hidden, seen = before[layer].clone(), after[layer].clone()
        magnitudes = site_magnitudes(site, hidden, thresholds)
        covered = covered_by_codebook(codebook, magnitudes, layer)
        linear = train_router(hidden, covered, None, "coverage", EPOCHS, 0)
        routers[f"{site.projection}.layer_{layer}"] = linear
        if layer % every:
            continue
        held_out = site_magnitudes(site, seen, thresholds)
        right = codebook.choose(held_out, layer)
        width, d, ones = codebook.width, hidden.shape[1], ones_in_centroid(codebook.width, SPARSITY)
        rank = equal_cost_rank(linear.parameters, d, width)
        factors = train_low_rank(hidden, magnitudes > 0, rank, EPOCHS, 0)
        indices = {
            "oracle": right,
            "router": linear.choose(seen),
            "router, cross-entropy": train_router(hidden, covered, None, "cross_entropy", EPOCHS, 0).choose(
                seen
            ),
            f"router of rank {RANK}": train_router(hidden, covered, RANK, "coverage", EPOCHS, 0).choose(seen),
        }
        masks = {name: codebook.masks(index, layer) for name, index in indices.items()}
        masks["low-rank predictor"] = low_rank_masks(seen, factors, ones)
        masks["truncated SVD"] = svd_masks(seen, site.weight, rank, ones)
        masks["single centroid"] = unpack(codebook.baseline[layer], width).expand(len(seen), -1)
        cost = {"oracle": width * d, "single centroid": 0, f"router of rank {RANK}": RANK * (d + clusters)}
        for name, mask in masks.items():
            accuracy = float((indices[name] == right).float().mean()) if name in indices else float("nan")
            row = [*quality(mask, held_out), accuracy, cost.get(name, d * clusters) / (3 * width * d)]
            found[site.projection].setdefault(name, []).append(row)
        print(
            site.name,
            {name: round(rows[-1][2], 4) for name, rows in found[site.projection].items()},
            flush=True,
        )
    table = {
        p: {name: torch.tensor(rows).mean(0).tolist() for name, rows in by_name.items()}
        for p, by_name in found.items()
    }
    if with_perplexity:
        scheme = build_scheme("threshold", {"projections": PROJECTIONS}, folder / "thresholds.json", None)
        for name, chosen in (("oracle", None), ("router", routers)):
            pattern = CodebookPattern(thresholds, codebooks, routers=chosen)
            with sparsify(model, replace(scheme, pattern=pattern)):
                table[f"perplexity, {name}"] = measure_perplexity(model, test)["value"]
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results/codebook_comparison")
    parser.add_argument("--clusters", type=int, default=64)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--perplexity", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    table = compare(arguments.folder, arguments.clusters, arguments.every, arguments.perplexity)
    write_json(
        arguments.folder / f"routers_{arguments.clusters}.json",
        json.loads(json.dumps(table).replace("NaN", "null")),
    )
    rows = [
        [p, name, *(f"{100 * value:.1f}" for value in row)]
        for p in PROJECTIONS
        for name, row in table[p].items()
    ]
    headers = ["projection", "predictor", "recall", "precision", "energy", "accuracy", "cost, % of the FFN"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))
    print(json.dumps({key: value for key, value in table.items() if key.startswith("perplexity")}))

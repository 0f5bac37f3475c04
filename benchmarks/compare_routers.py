"""Compare routers with the oracle and with predictors of single neurons: the tables of docs/codebooks.md.

    python benchmarks/compare_routers.py [--folder F] [--codebook C] [--clusters K] [--tokens T]
                                         [--only NAME ...] [--perplexity] [--threads N]

Works in the folder of compare_codebooks.py, which makes what it needs there. For gate and up of every layer:
a codebook of K centroids is fitted, routers and predictors are trained on T calibration tokens, and what
4,096 held-out tokens keep of their activation is measured. With codebook `contribution` gate's centroids are
those of up too, and what is kept is contribution. With --perplexity, all layers are predicted in the model
itself. Each layer is kept in F/routers_C_K_T/, and what is there is not made again. Prints two tables as
Markdown and, as the last line, one JSON object of perplexities.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import unpack
from actsparse.codebooks.pattern import CodebookPattern, Signed
from actsparse.codebooks.predictors import (
    equal_cost_rank,
    low_rank_masks,
    svd_factors,
    svd_masks,
    train_low_rank,
)
from actsparse.codebooks.router import load_routers, save_routers, train_router
from actsparse.codebooks.routing import block_inputs, covered_by_codebook, layer_magnitudes
from actsparse.evaluation.perplexity import measure_perplexity
from actsparse.jobs.devices import use_threads
from actsparse.jobs.files import atomic_path, read_json, write_json
from actsparse.kinds import KINDS
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.methods.thresholds import Thresholds, load_thresholds
from actsparse.models.loading import load_model
from actsparse.models.sites import Site, find_sites
from compare_codebooks import (
    AWARE,
    BY_ENERGY,
    DEFAULTS,
    JOINT,
    LENGTH,
    MODEL,
    PRODUCT,
    ROOT,
    VARIANTS,
    WINDOWS,
    fitted,
    thresholds_of,
    windows_of,
)

PROJECTIONS = ["gate_proj", "up_proj"]
CODEBOOKS = {
    "activation_aware": {**PRODUCT, **AWARE},
    "contribution": VARIANTS[f"spherical, per layer, K = 256{JOINT}{BY_ENERGY}"],
}
RANK, EPOCHS = 32, 10
ORACLE, ROUTER, LOW_RANK = "oracle", "router", "low-rank predictor of neurons"
SVD, SINGLE = "truncated SVD", "single centroid"
ROUTERS = {
    ROUTER: (None, "mixed"),
    "router, coverage alone": (None, "coverage"),
    "router, cross-entropy alone": (None, "cross_entropy"),
    f"router of rank {RANK}": (RANK, "mixed"),
}
NAMES = [*ROUTERS, LOW_RANK, SVD]
Masks = Callable[[torch.Tensor], torch.Tensor]


def hidden_states(
    folder: Path, model: torch.nn.Module, sites: list[Site], tokens: int, scheme: Scheme | None
) -> None:
    """Store what each layer's feed-forward network gets, for the calibration and the held-out tokens."""
    for split, windows in (("train", tokens // LENGTH), ("test", WINDOWS["test"])):
        if not (folder / f"{split}_{sites[-1].layer}.safetensors").exists():
            with sparsify(model, scheme):
                found = block_inputs(model, windows_of(folder.parent, split, windows), sites)
            for layer, hidden in found.items():
                with atomic_path(folder / f"{split}_{layer}.safetensors") as temporary:
                    save_file({"hidden": hidden.contiguous()}, temporary)


def measured(mask: torch.Tensor, magnitudes: torch.Tensor) -> dict[str, float]:
    """Return recall, precision and the share of activation kept of masks, bool (n, D)."""
    active = magnitudes > 0
    both = (mask & active).sum()
    kept = torch.where(mask, magnitudes, 0).sum() / magnitudes.sum()
    return {
        "recall": float(both / active.sum()),
        "precision": float(both / mask.sum()),
        "energy": float(kept),
    }


def compare_site(
    site: Site, codebook: Codebook, tokens: tuple, magnitudes: tuple, names: list[str], stem: Path
) -> None:
    """Train a site's routers and predictors; keep what they do on held-out tokens, and themselves."""
    (hidden, seen), (before, after) = tokens, magnitudes
    width, d, layer = codebook.width, hidden.shape[1], site.layer
    ones, rank = codebook.ones(layer), equal_cost_rank(d * codebook.clusters, d, width)
    covered = covered_by_codebook(codebook, before, layer)
    routers = {
        name: train_router(hidden, covered, *how, EPOCHS, 0) for name, how in ROUTERS.items() if name in names
    }
    factors = {}
    if LOW_RANK in names:
        factors[LOW_RANK] = train_low_rank(hidden, before > 0, rank, EPOCHS, 0)
    if SVD in names:
        factors[SVD] = svd_factors(site.weight, rank)
    oracle = codebook.choose(after, layer)
    index = {ORACLE: oracle} | {name: router.choose(seen) for name, router in routers.items()}
    masks = {name: codebook.masks(chosen, layer) for name, chosen in index.items()}
    masks |= {name: PREDICT[name](seen, pair, ones) for name, pair in factors.items()}
    masks[SINGLE] = unpack(codebook.baseline[layer], width).expand(len(seen), -1)
    parameters = {name: router.parameters for name, router in routers.items()}
    parameters |= {LOW_RANK: rank * (d + 1 + width), SVD: rank * (d + width), SINGLE: 0}
    costs = {name: router.multiply_adds for name, router in routers.items()}
    rows = {
        name: measured(mask, after)
        | {"accuracy": float((index[name] == oracle).float().mean()) if name in index else None}
        | {"parameters": parameters.get(name), "multiply_adds": costs.get(name, parameters.get(name))}
        for name, mask in masks.items()
    }
    if factors:
        with atomic_path(f"{stem}.safetensors") as temporary:
            pairs = {f"{name}_{i}": part for name, pair in factors.items() for i, part in enumerate(pair)}
            save_file({name: part.contiguous() for name, part in pairs.items()}, temporary)
    save_routers(f"{stem}.router", {stem.name: routers[ROUTER]}, {})
    write_json(f"{stem}.json", {"rows": rows, "projection": width * d})


PREDICT = {LOW_RANK: low_rank_masks, SVD: svd_masks}


@dataclass
class Predicted:
    """Keeps the active neurons that `masks` (by site) predict from the input of the feed-forward network."""

    thresholds: Thresholds
    masks: dict[str, Masks]
    inputs: dict[int, torch.Tensor] = field(default_factory=dict)

    reads_site = True

    def check(self, site: Site) -> None:
        Threshold(self.thresholds).check(site)

    def watch(self, sites: list[Site]) -> Callable[[], None]:
        def keep(layer: int):
            return lambda module, args: self.inputs.update({layer: args[0].flatten(0, -2)})

        blocks = {site.layer: site.block for site in sites}
        handles = [block.register_forward_pre_hook(keep(layer)) for layer, block in blocks.items()]
        return lambda: [handle.remove() for handle in handles]

    def mask(self, scores: torch.Tensor, site: Site) -> torch.Tensor:
        rows = scores.reshape(-1, site.width)
        predicted = self.masks[key(site)](self.inputs[site.layer])
        return (Threshold(self.thresholds).mask(rows, site) & predicted).reshape(scores.shape)


def expanded(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return mask.expand(len(hidden), -1)


def key(site: Site) -> str:
    return f"{site.projection}.layer_{site.layer}"


def perplexities(
    folder: Path,
    model: torch.nn.Module,
    sites: list[Site],
    books: dict[str, Codebook],
    names: list[str],
    joint: bool,
) -> dict:
    """Return perplexity and realised sparsity with all layers predicted, by predictor; each is kept."""
    thresholds = load_thresholds(thresholds_of(folder.parent, ""))
    chooser = {site: replace(site, projection="gate_proj") if joint else site for site in sites}
    choosers = {key(site): site for site in chooser.values()}
    routers = {name: load_routers(folder / f"{name}.router")[0][name] for name in choosers}

    def of_sites(masks: Callable[[str, Site], Masks]) -> Predicted:
        return Predicted(thresholds, {key(site): masks(key(by), by) for site, by in chooser.items()})

    def predicted(name: str) -> Predicted:
        def masks(stem: str, site: Site) -> Masks:
            found = load_file(folder / f"{stem}.safetensors")
            pair, ones = (found[f"{name}_0"], found[f"{name}_1"]), books[site.projection].ones(site.layer)
            return lambda hidden: PREDICT[name](hidden, pair, ones)

        return of_sites(masks)

    def single(stem: str, site: Site) -> Masks:
        return partial(expanded, mask=unpack(books[site.projection].baseline[site.layer], site.width))

    patterns = {
        "thresholds alone": Threshold(thresholds),
        ORACLE: CodebookPattern(thresholds, books, joint=joint),
        ROUTER: CodebookPattern(thresholds, books, routers=routers, joint=joint),
        **{name: predicted(name) for name in PREDICT if name in names},
        SINGLE: of_sites(single),
    }
    path = folder / "perplexities.json"
    found = read_json(path) if path.exists() else {}
    test = windows_of(folder.parent, "test", WINDOWS["test"])
    thresholded = KINDS["threshold"].of({"projections": PROJECTIONS})
    scheme = thresholded.build(thresholds=thresholds_of(folder.parent, ""))
    for name, pattern in patterns.items():
        if name not in found:
            scorer = Signed() if isinstance(pattern, CodebookPattern) else scheme.scorer
            with sparsify(model, replace(scheme, scorer=scorer, pattern=pattern)) as applied:
                value = measure_perplexity(model, test)["value"]
            found[name] = {"perplexity": value, "sparsity": applied.realised_sparsity}
            write_json(path, found)
            print(name, found[name], flush=True)
    return found


def compare(
    folder: Path, codebook: str, clusters: int, tokens: int, names: list[str], with_perplexity: bool
) -> tuple[dict, dict]:
    """Return {site: {predictor: row}} and the perplexities, {} where none are wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(MODEL, "float32", torch.device("cpu"), False)
    thresholds = load_thresholds(thresholds_of(folder.parent, ""))
    joint = codebook == "contribution"
    sites = find_sites(model, PROJECTIONS, "output")
    choosing = [site for site in sites if site.projection == "gate_proj" or not joint]
    codebooks, _ = fitted(folder.parent, DEFAULTS | CODEBOOKS[codebook] | {"clusters": clusters})
    thresholded = KINDS["threshold"].of({"projections": PROJECTIONS})
    scheme = thresholded.build(thresholds=thresholds_of(folder.parent, ""))
    hidden_states(folder, model, sites, tokens, scheme if joint else None)
    for layer in sorted({site.layer for site in sites}):
        here = [site for site in choosing if site.layer == layer]
        if all((folder / f"{key(site)}.json").exists() for site in here):
            continue
        stored = [folder / f"{split}_{layer}.safetensors" for split in ("train", "test")]
        hidden = tuple(load_file(name)["hidden"] for name in stored)
        before, after = (layer_magnitudes(here, some, thresholds, codebooks) for some in hidden)
        for site in here:
            p = site.projection
            compare_site(site, codebooks[p], hidden, (before[p], after[p]), names, folder / key(site))
            print(key(site), flush=True)
    rows = {key(site): read_json(folder / f"{key(site)}.json") for site in choosing}
    arguments = folder, model, sites, codebooks, names, joint
    return rows, perplexities(*arguments) if with_perplexity else {}


def mean_table(sites: dict[str, dict], perplexity: dict) -> str:
    """Return the means over layers of what each projection's predictors do, and what they cost."""
    table = []
    for p in dict.fromkeys(name.partition(".")[0] for name in sites):
        found = [site for name, site in sites.items() if name.startswith(p)]
        for name in found[0]["rows"]:
            rows = [site["rows"][name] for site in found]
            shares = [site["rows"][name]["energy"] / site["rows"][ORACLE]["energy"] for site in found]
            means = [
                "" if rows[0][column] is None else f"{100 * sum(row[column] for row in rows) / len(rows):.1f}"
                for column in ("accuracy", "recall", "precision", "energy")
            ]
            kept = [f"{100 * sum(shares) / len(shares):.1f}", f"{100 * min(shares):.1f}"]
            costs = ["", "", ""]
            if (cost := rows[0]["multiply_adds"]) is not None:
                share = 100 * cost / found[0]["projection"]
                costs = [f"{rows[0]['parameters']:,}", f"{share:.1f}", f"{share / 3:.1f}"]
            value = f"{perplexity[name]['perplexity']:.1f}" if name in perplexity else ""
            table.append([p, name, *means, *kept, *costs, value])
    headers = ["projection", "predictor", "accuracy", "recall", "precision", "energy", "of the oracle's"]
    headers += ["least layer", "parameters", "% of projection", "% of FFN", "perplexity"]
    return tabulate(table, headers, tablefmt="github", disable_numparse=True)


def layer_table(sites: dict[str, dict]) -> str:
    """Return the energy that predictors keep, layer by layer, and the router's share of the oracle's."""
    table, names = [], list(next(iter(sites.values()))["rows"])
    for site, found in sites.items():
        energy = [found["rows"][name]["energy"] for name in names]
        share = found["rows"][ROUTER]["energy"] / found["rows"][ORACLE]["energy"]
        table.append([site, *(f"{100 * value:.1f}" for value in (*energy, share))])
    return tabulate(table, ["site", *names, "router / oracle"], tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results/codebook_comparison")
    parser.add_argument("--codebook", choices=CODEBOOKS, default="activation_aware")
    parser.add_argument("--clusters", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=8192, help="to train on")
    parser.add_argument(
        "--only", nargs="*", choices=NAMES, default=NAMES, metavar="NAME", help="beside the full router"
    )
    parser.add_argument("--perplexity", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    names, how = [ROUTER, *arguments.only], (arguments.codebook, arguments.clusters, arguments.tokens)
    own = arguments.folder.resolve() / "routers_{}_{}_{}".format(*how)
    os.chdir(ROOT)  # the model's manifest has paths relative to it
    sites, perplexity = compare(own, *how, names, arguments.perplexity)
    print(mean_table(sites, perplexity), layer_table(sites), sep="\n\n")
    print(json.dumps({name: found["perplexity"] for name, found in perplexity.items()}))

"""What early stopping, replacement and more tokens do to the gap between fitting and held-out recall.

    python benchmarks/held_out_gap.py [--folder F] [--threads N]

Works in the folder of compare_codebooks.py. Fits `coverage` codebooks (20 % sparse, at most 20 updates) to
gate of layers 0, 14 and 28 of the default study's model; prints means over these layers and, as the last
line, one JSON object of the held-out recalls.
"""

import argparse
import json
import sys
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.codebook import ones_in_centroid
from actsparse.codebooks.coverage import Coverage
from actsparse.codebooks.fit import PatternStream, divided
from actsparse.codebooks.pattern_store import PatternStore
from actsparse.codebooks.selection import covered_and_active, replace_rare
from actsparse.jobs.devices import use_threads
from compare_codebooks import ROOT, store_of

PROJECTION, LAYERS, SPARSITY, STEPS, SEED = "gate_proj", (0, 14, 28), 0.2, 20, 42
VARIANTS = {
    "": {},
    "validation 0.1": {"validation": 0.1},
    "validation 0.2": {"validation": 0.2},
    "replace_below 0.5": {"replace_below": 0.5},
}


def recall(stream: PatternStream, centroids, width: int) -> float:
    covered, active = covered_and_active(Stream(stream), centroids, width).tolist()
    return covered / active


def measure(
    train: PatternStore, test: PatternStore, layer: int, tokens: int, clusters: int, options: dict
) -> list[float]:
    """Return the number of updates, the recall of the fitted and that of the held-out patterns."""
    width = train.widths[PROJECTION]
    fitting, validating = divided(train.token_positions(tokens), options.get("validation", 0))
    stream = PatternStream(train, PROJECTION, [layer], fitting)
    held_out = PatternStream(train, PROJECTION, [layer], validating) if len(validating) else None
    ones = ones_in_centroid(width, SPARSITY)
    centroids, objective = Coverage(STEPS, SEED).fit(stream, width, clusters, ones, held_out)
    if "replace_below" in options:
        centroids, _ = replace_rare(Stream(stream), centroids, width, ones, options["replace_below"])
    unseen = PatternStream(test, PROJECTION, [layer], test.tokens)
    return [len(objective) - 1, recall(stream, centroids, width), recall(unseen, centroids, width)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results/codebook_comparison")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    stores = [store_of(arguments.folder, split) for split in ("train", "test")]
    table, found = [], {}
    for tokens in (4096, 16384):
        for clusters in (256, 1024):
            for name, options in VARIANTS.items():
                rows = [measure(*stores, layer, tokens, clusters, options) for layer in LAYERS]
                updates, fitted, unseen = (sum(column) / len(LAYERS) for column in zip(*rows, strict=True))
                table.append(
                    [tokens, clusters, name, f"{updates:.0f}", f"{100 * fitted:.1f}", f"{100 * unseen:.1f}"]
                )
                found[f"{tokens} {clusters} {name}".strip()] = unseen
    headers = ["tokens", "K", "option", "updates", "fitting recall", "held-out recall"]
    print(tabulate(table, headers, tablefmt="github", disable_numparse=True))
    print(json.dumps(found))

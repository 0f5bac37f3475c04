"""Time the evaluation of the default study's model with codebooks against thresholds alone, and dense.

    python benchmarks/codebook_evaluation.py [--tokens N] [--clusters K] [--rounds R] [--threads T]

One window of text through the model, all in one run, by turns: dense, 50 % thresholds on gate, up and down,
and pooled codebooks on top of them with the oracle's assignment (random centroids: what they are does not
change the time), plain and weighted by magnitude. Seconds are those of the processor, over all threads, and
of the clock, the shortest of all rounds. Prints a table and, as its last line, one JSON object of ratios.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.calibration.histograms import compute_thresholds, measure_histograms
from actsparse.codebooks.codebook import Codebook, ones_in_centroid
from actsparse.codebooks.pattern import CodebookPattern, Signed
from actsparse.codebooks.update import top_entries
from actsparse.evaluation.perplexity import window_nll
from actsparse.jobs.devices import use_threads
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.loading import load_model
from actsparse.models.sites import find_sites

FFN = ("gate_proj", "up_proj", "down_proj")


def random_codebooks(model: torch.nn.Module, clusters: int, assign_power: int) -> dict[str, Codebook]:
    """Return a pooled codebook of centroids 20 % sparse for each projection."""
    generator = torch.Generator().manual_seed(0)
    sites = find_sites(model, FFN, "output")
    layers, widths = 1 + max(site.layer for site in sites), {site.projection: site.width for site in sites}
    codebooks = {}
    for projection, width in widths.items():
        drawn = torch.rand(clusters + layers, width, generator=generator)
        centroids = top_entries(drawn, ones_in_centroid(width, 0.2))
        codebooks[projection] = Codebook(
            centroids[None, None, :clusters],
            centroids[clusters:],
            width,
            [],
            assign_power,
            torch.ones(layers, dtype=torch.float64),
        )
    return codebooks


def compare(manifest: Path, tokens: int, clusters: int, rounds: int) -> dict[str, float]:
    """Print the times and return their ratios to the thresholds alone."""
    model = load_model(manifest, "float32", torch.device("cpu"))
    window = torch.randint(100, 40000, (tokens,), generator=torch.Generator().manual_seed(0))
    thresholds = compute_thresholds(measure_histograms(model, window[None], FFN), 0.5)
    alone = Scheme("output", FFN, Magnitude(), Threshold(thresholds), NoMitigation())
    schemes = {"dense": None, "thresholds": alone}
    for name, power in (("codebooks", 0), ("weighted codebooks", 1)):
        pattern = CodebookPattern(thresholds, random_codebooks(model, clusters, power))
        schemes[name] = replace(alone, scorer=Signed(), pattern=pattern)
    processor, clock = ({name: [] for name in schemes} for _ in range(2))
    for _ in range(rounds):
        for name, scheme in schemes.items():
            with sparsify(model, scheme):
                busy, start = time.process_time(), time.perf_counter()
                window_nll(model, window)
                clock[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - busy)
    print(f"{tokens} tokens, {clusters} centroids, {torch.get_num_threads()} threads, {rounds} rounds")
    base = min(processor["thresholds"])
    table = [
        [name, f"{min(times):.2f}", f"{min(times) / base:.2f}", f"{min(clock[name]):.2f}"]
        for name, times in processor.items()
    ]
    headers = ["", "processor s", "over thresholds", "clock s"]
    print(tabulate(table, headers, disable_numparse=True, colalign=("left", "right", "right", "right")))
    return {
        "codebook_over_thresholds": min(processor["codebooks"]) / base,
        "weighted_codebook_over_thresholds": min(processor["weighted codebooks"]) / base,
        "dense_over_thresholds": min(processor["dense"]) / base,
        "codebook_over_thresholds_by_the_clock": min(clock["codebooks"]) / min(clock["thresholds"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="resources/models/<model>-<origin>.json")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--clusters", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    print(json.dumps(compare(arguments.manifest, arguments.tokens, arguments.clusters, arguments.rounds)))

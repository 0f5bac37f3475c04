"""Time one fitting step (assign, update) against the matrix product, the published loop and libraries.

All in one run, on the same random patterns (half of the neurons active) and centroids (70 % active):

    python benchmarks/codebook_step.py [--rows N] [--width D] [--clusters K] [--threads T]

Prints a table and, as its last line, one JSON object of ratios; the libraries' are null when not installed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.codebooks.assign import assign
from actsparse.codebooks.packing import pack, unpack
from actsparse.codebooks.update import add_to_sums, no_sums, top_entries
from actsparse.jobs.devices import use_threads

SPARSITY = 0.3


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def published_step(patterns: Tensor, centroids: Tensor, iteration: int = 1) -> Tensor:
    """Restate the artifact's step for one chunk (arXiv 2507.14179), float32 (n, D) and (K, D).

    Centroids in order; each takes the n / K remaining patterns of largest inner product, and becomes the
    entries strictly above the quantile of its blend with their sum, its old self weighted by all it has seen.
    """
    capacity = len(patterns) // len(centroids)
    taken = torch.zeros(len(patterns), dtype=torch.bool)
    updated = torch.empty_like(centroids)
    for k, centroid in enumerate(centroids):
        overlaps = (patterns @ centroid).masked_fill_(taken, -torch.inf)
        members = overlaps.topk(capacity).indices
        taken[members] = True
        blend = centroid * (iteration * capacity) + patterns[members].sum(0)
        updated[k] = (blend > blend.quantile(SPARSITY)).float()
    return updated


def faiss_seconds(packed: Tensor, centroids: Tensor, patterns: Tensor, floats: Tensor) -> float | None:
    """Return the time of faiss: the shorter of its binary search (no update) and one k-means iteration.

    All centroids have the same number of ones, so the smallest Hamming distance is the largest overlap.
    """
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexBinaryFlat(patterns.shape[1])
    index.add(centroids.numpy())
    limits = {"max_points_per_centroid": len(patterns), "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(patterns.shape[1], len(floats), niter=1, **limits)
    return min(
        seconds(lambda: index.search(packed.numpy(), 1), 2),
        seconds(lambda: kmeans.train(patterns.numpy(), init_centroids=floats.numpy()), 1),
    )


def sklearn_seconds(patterns: Tensor, centroids: Tensor) -> float | None:
    """Return the time of one Lloyd iteration of scikit-learn's k-means."""
    try:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    kmeans = KMeans(len(centroids), init=centroids.numpy(), n_init=1, max_iter=1, algorithm="lloyd")
    with threadpool_limits(torch.get_num_threads()):
        return seconds(lambda: kmeans.fit(patterns.numpy()), 1)


def compare(rows: int, width: int, clusters: int) -> dict[str, float | None]:
    """Print the times and return their ratios."""
    generator = torch.Generator().manual_seed(0)
    ones = round((1 - SPARSITY) * width)
    masks = torch.rand(rows, width, generator=generator) < 0.5
    packed, patterns = pack(masks), masks.float()
    centroids = top_entries(torch.rand(clusters, width, generator=generator), ones)
    floats = unpack(centroids, width, torch.float32)
    index, _ = assign(packed, centroids, width)

    def update(index: Tensor) -> Tensor:
        sums = no_sums(clusters, width, packed.device)
        add_to_sums(sums, packed, index)
        return top_entries(sums, ones)

    def step() -> Tensor:
        return update(assign(packed, centroids, width)[0])

    step()
    times = {
        "our step": seconds(step, 7),
        "  its assignment": seconds(lambda: assign(packed, centroids, width), 7),
        "  its update": seconds(lambda: update(index), 7),
        "bare float32 product": seconds(lambda: patterns @ floats.T, 3),
        "published loop": seconds(lambda: published_step(patterns, floats), 1),
        "faiss": faiss_seconds(packed, centroids, patterns, floats) if width % 8 == 0 else None,
        "scikit-learn": sklearn_seconds(patterns, floats),
    }
    ours, operations = times["our step"], 2e-9 * rows * width * clusters
    print(f"{rows} patterns of {width} neurons, {clusters} centroids, {torch.get_num_threads()} threads")
    table = [
        [name, "not installed"]
        if took is None
        else [name, f"{1e3 * took:.1f}", f"{took / ours:.2f}", f"{operations / took:.0f}"]
        for name, took in times.items()
    ]
    headers = ["", "ms", "over our step", "Gop/s"]
    print(tabulate(table, headers, disable_numparse=True, colalign=("left", "right", "right", "right")))

    def ratio(name: str) -> float | None:
        return None if times[name] is None else times[name] / ours

    return {
        "step_over_gemm": ours / times["bare float32 product"],
        "artifact_over_step": ratio("published loop"),
        "faiss_over_step": ratio("faiss"),
        "sklearn_over_step": ratio("scikit-learn"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32768)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--clusters", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    print(json.dumps(compare(arguments.rows, arguments.width, arguments.clusters)))

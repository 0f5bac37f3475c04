"""Peak memory of fitting a codebook against the formula of docs/codebooks.md, on random patterns.

    python benchmarks/codebook_memory.py [--threads T]

A process of its own fits each of `coverage` and `spherical`, with all blocks kept in memory and streaming
them. What counts is the peak less what the process had before. Prints tables and, as its last line, one JSON
list of the ratios of measured to computed memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.codebooks.assign import OVERLAP_BYTES

BLOCK_BYTES = 2**22  # of a streamed block
SHARD_BYTES = 2**22
# Sums count most; patterns do; patterns do, of another width, so that no term was fitted to it.
SHAPES = ((16384, 8192, 8192), (262144, 1024, 512), (131072, 2048, 256))


def computed(algorithm: str, patterns: int, width: int, clusters: int, blocks: int) -> float:
    """Return the formula, in MiB.

    `blocks` is the size of those that are held: all, or the one that is read and the one before. Beside them
    there are counts of patterns, and the largest of what the steps, completing the seeds, and counting a
    block's active neurons need. The steps of `spherical` take sums, the means' directions in both types, and
    a block of patterns and products.
    """
    table = clusters * width
    if algorithm == "spherical":
        products = OVERLAP_BYTES * (1 + min(clusters, width) / max(clusters, width))
        return (blocks + 40 * patterns + 10 * table + products) / 2**20
    steps, seeds, counting = 4.5 * table, 2.25 * min(4 * table, 2**26), 8 * BLOCK_BYTES
    return (blocks + 40 * patterns + max(steps, seeds, counting)) / 2**20


def status(key: str) -> float:
    """Return an entry of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**10


def fit(algorithm: str, folder: str, width: int, clusters: int, cache_bytes: int, threads: int) -> float:
    """Fit two steps; return the peak of this process less what it had before, in MiB."""
    import torch
    from actsparse.codebooks import ALGORITHMS
    from actsparse.codebooks.fit import PatternStream
    from actsparse.codebooks.pattern_store import PatternStore
    from actsparse.jobs.devices import use_threads

    use_threads(threads)
    weights = {"update_power": 0, "assign_power": 0} if algorithm == "spherical" else {}
    method = ALGORITHMS[algorithm].load()(steps=2, seed=0, **weights)
    warm = torch.arange(64, dtype=torch.uint8)[:, None].expand(64, 2).contiguous()
    method.fit([warm], 16, 8, 12)
    store = PatternStore(folder)
    stream = PatternStream(store, "p", [0], store.tokens, block_bytes=BLOCK_BYTES, cache_bytes=cache_bytes)
    base = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    method.fit(stream, width, clusters, round(0.8 * width))
    return status("VmHWM") - base


def compare(algorithm: str, patterns: int, width: int, clusters: int, threads: int) -> dict[str, float]:
    """Print measured and computed memory and return their ratios."""
    import torch
    from actsparse.codebooks.packing import unpack
    from actsparse.codebooks.pattern_store import PatternWriter

    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        with PatternWriter(folder, {}, 1, {"p": width}, SHARD_BYTES) as writer:
            for rows in torch.arange(patterns).split(2**12):
                drawn = torch.randint(256, (len(rows), width // 8), generator=generator, dtype=torch.uint8)
                writer.add("p", 0, unpack(drawn, width))
        measured = {}
        # glibc otherwise keeps blocks after they are freed.
        fixed = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_TRIM_THRESHOLD_": str(2**16)}
        for name, cache in (("kept", 2**40), ("streamed", 0)):
            call = [
                sys.executable,
                __file__,
                "--child",
                algorithm,
                folder,
                str(width),
                str(clusters),
                str(cache),
            ]
            printed = subprocess.run([*call, str(threads)], check=True, capture_output=True, env=fixed)
            measured[name] = float(printed.stdout)
    sizes = {"kept": patterns * width // 8, "streamed": 2 * BLOCK_BYTES}
    formula = {name: computed(algorithm, patterns, width, clusters, size) for name, size in sizes.items()}
    print(f"{algorithm}: {patterns} patterns of {width} neurons, {clusters} centroids, {threads} threads")
    table = [
        [name, f"{formula[name]:.0f}", f"{measured[name]:.0f}", f"{measured[name] / formula[name]:.2f}"]
        for name in sizes
    ]
    print(tabulate(table, ["blocks", "formula, MiB", "measured, MiB", "ratio"], disable_numparse=True))
    return {f"measured_over_formula_{name}": measured[name] / formula[name] for name in sizes}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(fit(*sys.argv[2:4], *map(int, sys.argv[4:])))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--threads", type=int, default=1)
        threads = parser.parse_args().threads
        both = product(("coverage", "spherical"), SHAPES)
        print(json.dumps([compare(algorithm, *shape, threads) for algorithm, shape in both]))

"""Benchmarks: one file each says everything about it. May import every room but study and report; no torch.

`benchmark.py` says what a benchmark is.
"""

from actsparse.benchmarks.benchmark import Benchmark
from actsparse.discovery import members

BENCHMARKS: dict[str, Benchmark] = {word: found() for word, found in members(__name__, Benchmark).items()}

__all__ = ["BENCHMARKS", "Benchmark"]

"""Extraction and histograms stream: eight times the tokens take no more memory."""

import json
import subprocess
import sys

from tiny_study import ROOT


def test_peak_memory_does_not_grow_with_the_text():
    call = [sys.executable, str(ROOT / "benchmarks/streaming_memory.py"), "4096", "32768"]
    printed = subprocess.run(call, check=True, capture_output=True, text=True, timeout=300).stdout
    *_, largest, ratios = printed.splitlines()
    assert float(largest.split()[2]) > 100, "the patterns must be larger than what may be held of them"
    assert json.loads(ratios)["peak_growth"] < 0.05

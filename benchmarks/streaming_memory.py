"""Peak memory of the two passes over the calibration text, against the number of tokens.

Each measurement is a process of its own: a small Llama with a wide FFN, patterns of 4 kB a token, shards of
8 MiB.

    python benchmarks/streaming_memory.py [TOKENS ...]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow_scripts"))

LENGTH = 256
SHARD_BYTES = 2**23


def run_passes(tokens: int) -> dict[str, float]:
    """Make histograms and patterns of `tokens` tokens; return the peak memory and what was written."""
    import torch
    from actsparse.calibration.histograms import compute_thresholds, measure_histograms
    from actsparse.codebooks.extraction import extract_patterns
    from actsparse.codebooks.pattern_store import PatternWriter
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_num_threads(2)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=4096,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    model = LlamaForCausalLM(config).eval()
    windows = torch.randint(0, 512, (tokens // LENGTH, LENGTH))
    projections = {"gate_proj": 4096, "up_proj": 4096, "down_proj": 64}
    thresholds = compute_thresholds(measure_histograms(model, windows, projections), 0.5)
    with tempfile.TemporaryDirectory() as folder:
        with PatternWriter(folder, {}, 4, projections, SHARD_BYTES) as writer:
            extract_patterns(model, windows, thresholds, writer)
        written = sum(path.stat().st_size for path in Path(folder).iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"tokens": tokens, "peak_mb": peak, "patterns_mb": written / 2**20}


def measure(tokens: int) -> dict[str, float]:
    """Run the passes in a fresh process."""
    call = [sys.executable, __file__, "--child", str(tokens)]
    # glibc otherwise keeps large blocks after they are freed, a varying tenth of the peak.
    fixed = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    return json.loads(subprocess.run(call, check=True, capture_output=True, text=True, env=fixed).stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(run_passes(int(sys.argv[2]))))
    else:
        print("  tokens   peak MB   patterns MB")
        rows = [measure(int(count)) for count in sys.argv[1:] or ["4096", "32768"]]
        for row in rows:
            print(f"{row['tokens']:8d}  {row['peak_mb']:8.1f}  {row['patterns_mb']:12.1f}")
        print(json.dumps({"peak_growth": rows[-1]["peak_mb"] / rows[0]["peak_mb"] - 1}))

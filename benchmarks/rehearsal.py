"""A study at the sizes of a 7B model: what each rule takes, beside the memory that it asks for.

    python benchmarks/rehearsal.py [FOLDER] [--memory 24] [--tiny]

The model has random weights in bfloat16, the shape of Llama-2-7B's layers, and two of them; the text is
random words. The study goes through every rule of the two papers' studies, of `decode` and TEAL's search, on
2 windows of 1,024 tokens. K = 16,384 centroids need more patterns than these give: they are fitted to a given
store of random ones. FOLDER (a temporary one by default) keeps everything: what is there already is not made
again. Jobs run side by side as long as what they ask for stays below `--memory` GiB. `--tiny` takes a tiny
model, for trying this out.

A job's peak is the larger of Snakemake's, who looks twice a second at first, then every 30 seconds, and the
kernel's own, which misses nothing. Prints a table with a line for each rule and, as its last line, one JSON
object: the same numbers, and all jobs that took more than they asked for.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from ast import literal_eval
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import yaml
from tabulate import tabulate

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

LLAMA_2_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
}
TINY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
LAYERS = 2
SPECIAL = ["<unk>", "<s>", "</s>"]


def make_model(folder: Path, sizes: dict[str, int]) -> None:
    """Save a Llama of random weights in bfloat16, and a tokenizer with a token for each word w0, w1, ..."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(LlamaConfig(**sizes, **special, num_hidden_layers=LAYERS)).save_pretrained(folder)
    words = [*SPECIAL, *(f"w{i}" for i in range(sizes["vocab_size"] - len(SPECIAL)))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL[2], **names).save_pretrained(folder)


def make_texts(folder: Path, vocabulary: int, tokens: int) -> None:
    """Write a text of so many tokens for each split, and questions about passages of 500 words."""
    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(f"w{draw.randrange(vocabulary - len(SPECIAL))}" for _ in range(count))

    for split in ("train", "test"):
        (folder / f"{split}.txt").write_text(words(tokens))
    questions = [{"passage": words(500), "question": words(8), "label": i % 2} for i in range(4)]
    (folder / "boolq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))


def make_patterns(folder: Path, sizes: dict[str, int], patterns: int) -> None:
    """Write a store of random patterns of both layers, half of the neurons active."""
    import torch
    from actsparse.codebooks.pattern_store import PatternWriter

    inner, block = sizes["intermediate_size"], 1024
    widths = {"gate_proj": inner, "up_proj": inner, "down_proj": sizes["hidden_size"]}
    draw = torch.Generator().manual_seed(0)
    with PatternWriter(folder, {"model": "random"}, LAYERS, widths) as writer:
        for first in range(0, patterns // LAYERS, block):
            rows = min(block, patterns // LAYERS - first)
            for layer in range(LAYERS):
                for projection, width in widths.items():
                    writer.add(projection, layer, torch.rand(rows, width, generator=draw) < 0.5)


def study(sizes: dict[str, int], length: int, clusters: int) -> dict[str, Any]:
    """Return the config of the study, on 2 windows of `length` tokens, for so many clusters at most."""
    shape = sizes | {"num_hidden_layers": LAYERS}
    del shape["max_position_embeddings"]
    windows = {"corpus": "words", "sequence_length": length, "sequences": 2}
    codebook = {"method": "codebook", "threshold": 0.5, "centroid_sparsity": 0.3}
    best = {
        **codebook,
        "algorithm": "spherical",
        "scope": "per_layer",
        "patterns_of": "thresholded",
        "importance": "contribution",
        "allocation": "by_energy",
        "joint": True,
    }
    act = {"method": "prune_activations", "pattern": "8:16"}
    return {
        "study": "rehearsal",
        "models": {
            "llama": {
                "source": "model",
                "dtype": "bfloat16",
                "shape": shape,
                "patterns": {"0.5": "patterns"},
            }
        },
        "corpora": {
            "words": {"source": {"train": "train.txt", "test": "test.txt"}, "format": "text"},
        },
        "tasks": {"boolq": {"source": "boolq.jsonl", "format": "hub"}},
        "calibration": {**windows, "split": "train"},
        "training": {"validation_sequences": 1},
        "allocation": {"sequences": 1, "step": 0.1},
        "codebooks": {"steps": 2, "router_epochs": 1},
        "perplexity": {**windows, "split": "test"},
        "zero_shot": {"tasks": ["boolq"], "limit": 4, "batch_size": 4},
        "decode": {"prompt_tokens": 64, "new_tokens": 4, "repeats": 2},
        "experiments": {
            "dense": {},
            "threshold": {"method": "threshold", "sparsity": 0.5},
            "teal": {"preset": "teal", "allocation": "greedy", "sparsity": 0.2},
            "published": {
                **codebook,
                "as_published": True,
                "algorithm": "as_published",
                "clusters": clusters // 8,
            },
            "coverage": {**codebook, "clusters": clusters},
            "weighted": {
                **codebook,
                "algorithm": "activation_aware",
                "patterns_of": "thresholded",
                "scope": "per_layer",
                "clusters": clusters // 16,
            },
            "routed": {**best, "clusters": clusters // 16, "assignment": "router"},
            "act": act,
            "amber": {**act, "scorer": "amber"},
            "larosa": {"preset": "larosa", "sparsity": 0.5},
            "trained": {**act, "mitigation": "scale_shift"},
            "low_rank": {
                **act,
                "mitigation": "low_rank",
                "rank": min(128, sizes["hidden_size"]),
                "layers": "0",
                "projections": ["down_proj"],
            },
            "weight": {
                "method": "prune_weights",
                "pattern": "2:4",
                "scorer": ["wanda", "sparsegpt"],
            },
        },
    }


class Watch(threading.Thread):
    """Notes the largest resident memory of each descendant of a process, MiB, by the log it writes to."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.main, self.peaks, self.largest_together = psutil.Process(pid), {}, 0.0

    def run(self) -> None:
        while self.main.is_running() and self.main.status() != psutil.STATUS_ZOMBIE:
            together = 0.0
            for process in self.main.children(recursive=True):
                try:
                    log = str(Path(f"/proc/{process.pid}/fd/1").readlink())
                    now, peak = (_status(process.pid, key) for key in ("VmRSS", "VmHWM"))
                except (OSError, StopIteration):
                    continue
                together += now
                self.peaks[log] = max(peak, self.peaks.get(log, 0.0))
            self.largest_together = max(together, self.largest_together)
            time.sleep(0.2)


def _status(pid: int, key: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**10


def run_study(folder: Path, memory: float, targets: list[str]) -> dict[str, float]:
    """Make `targets` of a folder's study, by default all; its jobs together ask for `memory` GiB at most.

    Returns how long it took and how much memory its jobs had together at most.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "snakemake", "--cores=2", f"--resources=mem_mb={int(memory * 2**10)}"),
            *(f"--snakefile={ROOT / 'Snakefile'}", f"--directory={folder}", "--benchmark-extended"),
            *(f"--configfile={folder / 'config.yaml'}", f"--workflow-profile={ROOT / 'profiles/default'}"),
            *("--", *targets),
        ],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=sys.stderr,
    )
    watch = Watch(process.pid)
    watch.start()
    code = process.wait()
    (folder / "peaks.json").write_text(json.dumps(earlier_peaks(folder) | watch.peaks))
    if code:
        raise SystemExit("the study failed")
    return {"seconds": time.perf_counter() - start, "peak_mb": watch.largest_together}


def earlier_peaks(folder: Path) -> dict[str, float]:
    """Return the peaks of jobs that an earlier call ran, MiB by log."""
    path = folder / "peaks.json"
    return json.loads(path.read_text()) if path.exists() else {}


def jobs(folder: Path) -> list[dict[str, Any]]:
    """Return what each job took: rule, job, seconds, peak_mb, asked_mb, from the benchmark files."""
    found, peaks = [], earlier_peaks(folder)
    for path in sorted([*folder.glob("re*/**/benchmarks/**/*.tsv")]):
        with path.open() as lines:
            (row,) = csv.DictReader(lines, delimiter="\t")
        log = str(path.with_suffix(".log")).replace("/benchmarks/", "/logs/", 1)
        seen = 0.0 if row["max_rss"] == "NA" else float(row["max_rss"])
        found.append(
            {
                "rule": path.relative_to(folder).parts[
                    path.relative_to(folder).parts.index("benchmarks") + 1
                ],
                "job": path.stem,
                "seconds": float(row["s"]),
                "peak_mb": max(seen, peaks.get(log, 0.0)),
                "asked_mb": literal_eval(row["resources"])["mem_mb"],
            }
        )
    return found


def by_rule(jobs: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return each rule's number of jobs, most seconds, largest peak, what that job asked for, and ratios."""
    rules: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        rules.setdefault(job["rule"], []).append(job)
    return {
        rule: {
            "jobs": len(some),
            "seconds": max(job["seconds"] for job in some),
            "peak_mb": (largest := max(some, key=lambda job: job["peak_mb"]))["peak_mb"],
            "asked_mb": largest["asked_mb"],
            "least_asked_over_peak": min(job["asked_mb"] / max(job["peak_mb"], 1) for job in some),
            "most_asked_over_peak": max(job["asked_mb"] / max(job["peak_mb"], 1) for job in some),
        }
        for rule, some in rules.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--memory", type=float, default=24)
    parser.add_argument("--targets", nargs="*", default=[], help="files or rules; all by default")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--every-job", action="store_true", help="print a line for each job too")
    options = parser.parse_args()
    sizes, length, clusters = (TINY, 128, 512) if options.tiny else (LLAMA_2_7B, 1024, 16384)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "model").exists():
            make_model(folder / "model", sizes)
            make_texts(folder, sizes["vocab_size"], 2 * length + 1)
            make_patterns(folder / "patterns", sizes, clusters + clusters // 8)
        (folder / "config.yaml").write_text(yaml.safe_dump(study(sizes, length, clusters), sort_keys=False))
        took = run_study(folder, options.memory, options.targets)
        every = jobs(folder)
    rules = by_rule(every)
    if options.every_job:
        print(tabulate(every, headers="keys", floatfmt=".0f"))
    rows = [[rule, *row.values()] for rule, row in rules.items()]
    heads = ["rule", "jobs", "seconds", "peak, MB", "asked, MB", "least asked / peak", "most"]
    print(tabulate(rows, heads, floatfmt=("", ".0f", ".0f", ".0f", ".0f", ".2f", ".2f")))
    above = [job for job in every if job["peak_mb"] > job["asked_mb"]]
    print(json.dumps({**took, "rules": rules, "above": above}))


if __name__ == "__main__":
    main()

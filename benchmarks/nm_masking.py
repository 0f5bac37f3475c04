"""What N:M pruning of the activations costs: a dense evaluation, ours, and the plain way, side by side.

    python benchmarks/nm_masking.py resources/models/smollm2-135m-*/
    python benchmarks/nm_masking.py --device cuda --dtype bfloat16 --shape llama-2-7b --layers 4 --batch 8

The plain way is what the artifact of arXiv 2509.22166 does: top-k of each group, a mask by scatter, a product
with the mask, in every linear layer anew. Variants take turns, and each one's fastest run counts, so that
other work on the machine disturbs ratios little. The floor is the time of reading and writing every pruned
activation once, as fast as a copy does it. The last line is one JSON object of ratios.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.sites import find_sites

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PATTERNS = ((2, 4), (8, 16), (16, 32))
SHAPES = {"llama-2-7b": LlamaConfig}  # its defaults


@contextmanager
def plain_way(model: torch.nn.Module, n: int, m: int):
    """Prune every input by top-k and scatter, once per linear layer."""

    def hook(module, args):
        (x,) = args
        groups = x.abs().reshape(-1, m)
        mask = torch.zeros_like(groups).scatter_(-1, groups.topk(n, dim=-1).indices, 1.0)
        return (x * mask.reshape(x.shape),)

    handles = [
        site.module.register_forward_pre_hook(hook) for site in find_sites(model, PROJECTIONS, "input")
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def ours(model: torch.nn.Module, n: int, m: int):
    """Prune every distinct input as the library does."""
    return sparsify(model, Scheme("input", PROJECTIONS, Magnitude(), NOfM(n, m), NoMitigation()))


def load(arguments: argparse.Namespace) -> torch.nn.Module:
    """Load the model of a folder, or draw one of a known shape."""
    dtype = getattr(torch, arguments.dtype)
    if arguments.shape:
        config = SHAPES[arguments.shape]()
        config.num_hidden_layers = arguments.layers or config.num_hidden_layers
        with torch.device(arguments.device):
            torch.set_default_dtype(dtype)
            model = AutoModelForCausalLM.from_config(config)
            torch.set_default_dtype(torch.float32)
    else:
        config = AutoConfig.from_pretrained(arguments.model, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype, local_files_only=True)
    return model.eval().requires_grad_(False).to(arguments.device)


def clock(run: Callable[[], object], device: str) -> float:
    """Return the seconds of one run."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def activation_bytes(model: torch.nn.Module, evaluate: Callable[[], object]) -> int:
    """Return the bytes of all distinct inputs that are pruned in one evaluation."""
    sizes: dict[tuple[int, int], int] = {}

    def hook(site):
        def record(module, args):
            # q, k and v share one input, and so do gate and up.
            kind = {"q": "qkv", "k": "qkv", "v": "qkv", "up": "gate"}.get(site.projection[:-5])
            sizes[site.layer, hash(kind or site.projection)] = args[0].numel() * args[0].element_size()

        return record

    sites = find_sites(model, PROJECTIONS, "input")
    handles = [site.module.register_forward_pre_hook(hook(site)) for site in sites]
    evaluate()
    for handle in handles:
        handle.remove()
    return sum(sizes.values())


def copy_bandwidth(device: str, size: int = 1 << 28) -> float:
    """Return the bytes a second that a copy reads and writes."""
    source = torch.empty(size // 4, dtype=torch.float32, device=device).zero_()
    target = torch.empty_like(source).zero_()
    return 2 * size / min(clock(lambda: target.copy_(source), device) for _ in range(5))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="a model folder")
    parser.add_argument("--shape", choices=SHAPES, help="random weights of this shape instead of a folder")
    parser.add_argument("--layers", type=int, help="with --shape: this many decoder layers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1, help="windows at a time")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a window")
    parser.add_argument("--rounds", type=int, default=3, help="how often each variant is run")
    arguments = parser.parse_args()
    if not (arguments.model or arguments.shape):
        parser.error("give a model folder or --shape")

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = load(arguments)
    ids = torch.randint(
        10, model.config.vocab_size, (arguments.batch, arguments.length), device=arguments.device
    )

    def evaluate() -> None:
        model(input_ids=ids, use_cache=False)

    variants: dict[str, Callable] = {"dense": lambda: sparsify(model, None)}
    for n, m in PATTERNS:
        variants[f"ours {n}:{m}"] = lambda n=n, m=m: ours(model, n, m)
    for n, m in PATTERNS:
        variants[f"plain {n}:{m}"] = lambda n=n, m=m: plain_way(model, n, m)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode():
        for turn in range(arguments.rounds + 1):  # the first round compiles and warms up
            for name, variant in variants.items():
                with variant():
                    elapsed = clock(evaluate, arguments.device)
                if turn:
                    seconds[name].append(elapsed)
        pruned = activation_bytes(model, evaluate)
    floor = 2 * pruned / copy_bandwidth(arguments.device)

    dense = min(seconds["dense"])
    print(
        f"{arguments.shape or arguments.model}, {arguments.dtype} on {arguments.device}, "
        f"{arguments.batch} x {arguments.length} tokens; {pruned / 2**20:.0f} MiB of activations, "
        f"floor {floor:.3f} s"
    )
    print(f"{'variant':<12} {'seconds':>9} {'overhead':>9} {'x floor':>9}")
    for name, runs in seconds.items():
        extra = min(runs) - dense
        shown = "" if name == "dense" else f"{extra / dense:>9.1%} {extra / floor:>9.1f}"
        print(f"{name:<12} {min(runs):>9.3f} {shown}")
    ratios = {f"overhead_{n}_{m}": min(seconds[f"ours {n}:{m}"]) / dense - 1 for n, m in PATTERNS}
    ratios["plain_overhead_8_16"] = min(seconds["plain 8:16"]) / dense - 1
    print(json.dumps({name: round(ratio, 4) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()

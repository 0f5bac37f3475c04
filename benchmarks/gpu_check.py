"""What sparsity costs and gains on one GPU, at Llama-2-7B's shapes, in six minutes at most.

    python benchmarks/gpu_check.py [--parts kernels,masks,products,decode,sweep]

kernels: every Triton kernel against the definition in float64. masks: the time that N:M masks add to the
dense forward pass. products: skipped inputs over the vendor's dense product, both as CUDA graphs. decode:
milliseconds a token of a random model, dense and skipping, and of transformers with a static cache and
torch.compile. sweep (only if asked for): sizes of a program for each shape. Prints tables, and JSON in
the last line.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

from actsparse.kernels.gpu.lists import list_kept
from actsparse.kernels.gpu.masks import prune_n_of_m
from actsparse.kernels.gpu.products import skip_inputs, skip_outputs
from actsparse.kernels.modes import N_OF_M, THRESHOLD, TOP_K
from actsparse.methods.execute import execute
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.decoding import TransformersDecoder, make_decoder, time_tokens
from transformers import AutoModelForCausalLM, LlamaConfig

HIDDEN, INNER, LAYERS, VOCABULARY = 4096, 11008, 32, 32000
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPES = {"qkv": (HIDDEN, 3 * HIDDEN), "o": (HIDDEN, HIDDEN), "gate_up": (HIDDEN, 2 * INNER),
          "down": (INNER, HIDDEN)}  # fmt: skip
COPIES = 5  # of each weight, so that no cache holds what a product reads
BF16 = torch.bfloat16


def milliseconds(run: Callable[[], object], repeats: int = 20) -> float:
    """Return the median time of one run, by the device's clock."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def recorded(run: Callable[[], object]) -> Callable[[], object]:
    """Return a CUDA graph of a run."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def copy_bandwidth() -> float:
    """Return the bytes a second that a copy reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / milliseconds(lambda: target.copy_(source)) * 1e3


def best_of_groups(score: Tensor, n: int, m: int) -> Tensor:
    """The mask of the n largest of each m consecutive scores (rows, d); ties go to the earlier."""
    groups = score.reshape(-1, m)
    best = groups.argsort(dim=1, descending=True, stable=True)[:, :n]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, best, True).reshape(score.shape)


def check_kernels(found: dict[str, float]) -> None:
    """Compare with float64 on fresh random numbers with ties."""
    worst = 0.0
    for dtype in (torch.float32, BF16, torch.float16):
        for n, m in ((2, 4), (8, 16), (16, 32), (2, 3)):
            x = torch.randn(96, m * 100, device="cuda").mul(4).round().div(4).to(dtype)
            pruned, finite = prune_n_of_m(x, None, n, m)
            assert torch.equal(pruned, torch.where(best_of_groups(x.abs(), n, m), x, 0)), (dtype, n, m)
            assert finite
            score = torch.randn_like(x, dtype=torch.float32)
            pruned, _ = prune_n_of_m(x, score, n, m)
            assert torch.equal(pruned, torch.where(best_of_groups(score, n, m), x, 0)), (dtype, n, m)
            x[3, 5] = torch.nan
            assert not prune_n_of_m(x, None, n, m)[1]
        for batch in (1, 4) if dtype == torch.float16 else (1, 3, 8):
            for d, outs in ((1104, 200),):
                x = torch.randn(batch, d, device="cuda").to(dtype)
                w, bias = (
                    torch.randn(d, outs, device="cuda").to(dtype),
                    torch.randn(outs, device="cuda").to(dtype),
                )
                factor = torch.rand(d, device="cuda")
                score = x.float().abs() * factor
                half = best_of_groups(score, d // 2, d)
                cases = {
                    (N_OF_M, 8, 16, 0.0): best_of_groups(score, 8, 16),
                    (THRESHOLD, 0, 0, 0.3): score >= 0.3,
                    (TOP_K, d // 2, 0, 0.0): half,
                }
                counts = torch.zeros(2, dtype=torch.int64, device="cuda")
                for (mode, n, m, level), keep in cases.items():
                    for _ in range(2):
                        y = skip_inputs(x, w, None, bias, mode, n, m, level, factor, counts.zero_())
                        truth = torch.where(keep, x, 0).double() @ w.double() + bias.double()
                        worst = max(worst, _error(y, truth, dtype, f"{mode} {dtype} {batch} {d}"))
                        assert counts.tolist() == [int(keep.any(0).sum()) * outs * w.element_size(), w.nbytes]
                kept = torch.rand(batch, outs, device="cuda") > 0.5
                y = skip_outputs(x, w.t().contiguous(), None, bias, kept, counts)
                truth = torch.where(kept, x.double() @ w.double() + bias.double(), 0)
                worst = max(worst, _error(y, truth, dtype, f"outputs {dtype} {batch} {d}"))
    print(f"kernels: all agree with float64; largest error over its bound {worst:.2f}")
    found["kernel_error_over_bound"] = worst


def _error(y: Tensor, truth: Tensor, dtype: torch.dtype, name: str) -> float:
    error = float((y.double() - truth).norm() / truth.norm())
    bound = {torch.float32: 1e-5, BF16: 5e-3, torch.float16: 1e-3}[dtype]
    assert error < bound, (name, error)
    return error / bound


def random_model(layers: int) -> torch.nn.Module:
    """Return a Llama of the 7B's shapes with random weights, bfloat16."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=layers,
        num_attention_heads=32, num_key_value_heads=32, max_position_embeddings=4096,
    )  # fmt: skip
    torch.set_default_dtype(BF16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    return model.eval().requires_grad_(False)


def inputs_by(pattern: object) -> Scheme:
    """Return the scheme that prunes the inputs of all linear layers by magnitude."""
    return Scheme("input", PROJECTIONS, Magnitude(), pattern, NoMitigation())


@torch.inference_mode()
def check_masks(found: dict[str, float]) -> None:
    """Print what N:M masks add to a forward pass of 8 windows."""
    model = random_model(4)
    ids = torch.randint(10, VOCABULARY, (8, 2048), device="cuda")

    def forward() -> None:
        model.model(input_ids=ids, use_cache=False)

    times: dict[str, list[float]] = {}
    for _ in range(3):
        for name, scheme in {
            "dense": None, "2:4": inputs_by(NOfM(2, 4)), "8:16": inputs_by(NOfM(8, 16)),
            "16:32": inputs_by(NOfM(16, 32)),
        }.items():  # fmt: skip
            with sparsify(model, scheme):
                times.setdefault(name, []).append(milliseconds(forward, 3))
    dense = min(times["dense"])
    x = torch.randn(8 * 2048, INNER, device="cuda", dtype=BF16)
    y = torch.empty_like(x)
    copy = milliseconds(lambda: y.copy_(x))
    for n, m in ((2, 4), (8, 16), (16, 32)):
        kernel = milliseconds(lambda n=n, m=m: prune_n_of_m(x, None, n, m))
        share = min(times[f"{n}:{m}"]) / dense - 1
        print(
            f"masks {n}:{m}: {share:6.1%} over dense ({dense:.1f} ms); "
            f"the kernel takes {kernel / copy:.2f} copies"
        )
        found[f"masks_{n}_{m}_over_dense"] = share


def weights_of(shape: str) -> list[Tensor]:
    """Return copies of a random weight, (in, out), bfloat16."""
    return [torch.randn(SHAPES[shape], device="cuda", dtype=BF16) * 0.02 for _ in range(COPIES)]


def selections(x: Tensor) -> dict[str, tuple]:
    """Return name -> mode, n, m and level of `skip_inputs` for an input (1, in)."""
    d = x.shape[1]
    chosen = {"8:16": (N_OF_M, 8, 16, 0.0), "2:4": (N_OF_M, 2, 4, 0.0), "top_k 0.5": (TOP_K, d // 2, 0, 0.0)}
    for part in (0.3, 0.4, 0.5, 0.6, 0.7):
        chosen[f"threshold {part}"] = (THRESHOLD, 0, 0, float(x.float().abs().quantile(part)))
    return chosen


@torch.inference_mode()
def check_products(found: dict[str, float], bandwidth: float) -> None:
    """Print products of one row, skipping over dense, per shape and for a whole layer."""
    counts = torch.zeros(2, dtype=torch.int64, device="cuda")
    total: dict[str, float] = {}
    for shape, (d, outs) in SHAPES.items():
        x, weights = torch.randn(1, d, device="cuda", dtype=BF16), weights_of(shape)
        turned = [w.t().contiguous() for w in weights]
        row = {
            "dense": recorded(lambda turned=turned, x=x: [torch.nn.functional.linear(x, w) for w in turned])
        }
        for name, (mode, n, m, level) in selections(x).items():
            row[name] = recorded(
                lambda x=x, weights=weights, mode=mode, n=n, m=m, level=level: [
                    skip_inputs(x, w, None, None, mode, n, m, level, None, counts) for w in weights
                ]
            )
            row[f"list {name}"] = recorded(
                lambda x=x, mode=mode, n=n, m=m, level=level: [
                    list_kept(x, mode, n, m, level, None) for _ in range(COPIES)
                ]
            )
        times = {name: milliseconds(run) / COPIES for name, run in row.items()}
        print(
            "us to list:", {name: round(times.pop(name) * 1e3, 1) for name in list(times) if "list" in name}
        )
        for name, value in times.items():
            total[name] = total.get(name, 0.0) + value
        floor = d * outs * 2 / bandwidth * 1e3
        shown = "  ".join(
            f"{name} {times['dense'] / value:.2f}" for name, value in times.items() if name != "dense"
        )
        print(
            f"{shape} {d} x {outs}: dense {times['dense'] * 1e3:.1f} us (bytes {floor * 1e3:.1f}); "
            f"faster by {shown}"
        )
    for name, value in total.items():
        if name != "dense":
            found[f"product_{name.replace(' ', '_').replace(':', '_')}"] = total["dense"] / value
    floor = sum(d * outs * 2 for d, outs in SHAPES.values()) / bandwidth * 1e3
    print(f"a layer: dense {total['dense'] * 1e3:.1f} us, bytes {floor * 1e3:.1f} us; "
          + "  ".join(f"{name} {total['dense'] / value:.2f}" for name, value in total.items()))  # fmt: skip


@torch.inference_mode()
def sweep(seconds: float) -> None:
    """Print the fastest sizes of a program for each shape and selection."""
    counts = torch.zeros(2, dtype=torch.int64, device="cuda")
    deadline = time.time() + seconds
    for shape, (d, _) in SHAPES.items():
        x, weights = torch.randn(1, d, device="cuda", dtype=BF16), weights_of(shape)
        for name in ("8:16",):
            mode, n, m, level = selections(x)[name]
            results = []
            for sizes in (
                (block, chunk, splits, warps)
                for block in (256, 512, 1024)
                for chunk in (8, 16, 32)
                for warps in (4, 8)
                for splits in (4, 8, 16, 32, 64)
            ):
                if time.time() > deadline or sizes[0] * sizes[1] > 16384:
                    continue
                with contextlib.suppress(Exception):
                    run = recorded(
                        lambda sizes=sizes, x=x, weights=weights, mode=mode, n=n, m=m, level=level: [
                            skip_inputs(x, w, None, None, mode, n, m, level, None, counts, sizes)
                            for w in weights
                        ]
                    )
                    results.append((milliseconds(run, 7) / COPIES * 1e3, sizes))
            print(f"{shape} {name}:", [(f"{us:.1f}", sizes) for us, sizes in sorted(results)[:6]], flush=True)


@torch.inference_mode()
def check_decode(found: dict[str, float], bandwidth: float) -> None:
    """Print milliseconds a token of the 7B shapes."""
    model = random_model(LAYERS)
    text = torch.randint(10, VOCABULARY, (1, 128 + 33), device="cuda")
    linear = sum(d * outs for d, outs in SHAPES.values()) * LAYERS * 2
    floor = (linear + VOCABULARY * HIDDEN * 2) / bandwidth * 1e3
    times: dict[str, list[float]] = {}
    for _ in range(2):
        for name, scheme in {
            "dense": None,
            "8:16": inputs_by(NOfM(8, 16)),
            "top_k 0.5": inputs_by(TopK(0.5)),
        }.items():
            torch.cuda.reset_peak_memory_stats()
            with execute(model, scheme, batch=1) as running:
                decoder = make_decoder(model, text.shape[1])
                running.reset()
                times.setdefault(name, []).append(time_tokens(decoder, text, 128).median)
                print(f"decode {name}: {times[name][-1]:.3f} ms, {decoder.name}, {running.engine.name}, "
                      f"{running.weight_bytes_read / 32e9:.2f} GB a token, "
                      f"executed {running.executed_sparsity:.3f}, "
                      f"peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB", flush=True)  # fmt: skip
                del decoder
    start = time.time()
    torch.compiler.reset()
    decoder = TransformersDecoder(model, text.shape[1], compiled=True)
    try:
        time_tokens(decoder, text[:, :132], 128)
        compiled = time_tokens(decoder, text, 128).median
        print(
            f"transformers, static cache and torch.compile: {compiled:.3f} ms ({time.time() - start:.0f} s)"
        )
        found["decode_compiled_ms"] = compiled
    except Exception as error:
        print(f"transformers compiled failed: {type(error).__name__}: {str(error)[:300]}")
        compiled = float("nan")
    print(f"bytes over copy bandwidth: {floor:.3f} ms")
    found["decode_floor_ms"] = floor
    for name, values in times.items():
        word = name.replace(" ", "_").replace(":", "_")
        found[f"decode_{word}_ms"] = min(values)
        found[f"decode_{word}_speedup_over_compiled"] = compiled / min(values)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="kernels,masks,products,decode")
    parts = parser.parse_args().parts.split(",")
    torch.manual_seed(0)
    bandwidth = copy_bandwidth()
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; a copy moves {bandwidth / 1e12:.2f} TB/s"
    )
    found: dict[str, float] = {"copy_tb_s": bandwidth / 1e12}
    steps = {
        "kernels": lambda: check_kernels(found),
        "sweep": lambda: sweep(120),
        "products": lambda: check_products(found, bandwidth),
        "masks": lambda: check_masks(found),
        "decode": lambda: check_decode(found, bandwidth),
    }
    for word, step in steps.items():
        if word in parts:
            start = time.time()
            step()
            torch.cuda.empty_cache()
            print(f"{word}: {time.time() - start:.0f} s", flush=True)
    print(json.dumps({"device": torch.cuda.get_device_name(), **{k: round(v, 4) for k, v in found.items()}}))


if __name__ == "__main__":
    main()

"""How fast a token is decoded on the CPU: dense and sparse products of ours, llama.cpp, transformers.

    python benchmarks/decode_peers.py resources/models/smollm2-135m-*/
    python benchmarks/decode_peers.py resources/models/smollm2-135m-*/ --shapes 135m --dtypes bf16 --rounds 3

135m is the given model (a folder as transformers saves it); 1b has hidden 2048, inner 8192, 16 layers, 8
key-value heads, 49,152 tokens and random weights. llama.cpp runs the same weights in the same type (int8: its
Q8_0) where llama-cpp-python is installed (`pip install llama-cpp-python` builds it). Batch 1; the tokens of a
text are fed one after the other behind a prompt. Engines take turns, and each one's best turn counts (the
median of its tokens), so that other work on the machine disturbs ratios little; best with nothing else
running.

The last line is one JSON object of ratios of times: dense_over_llamacpp_<dtype>_<shape> and
sparse_over_llamacpp_<dtype>_<shape> (8:16; below 1 is faster than llama.cpp), speedup_8_16_<dtype>_<shape>
and speedup_top_k_<dtype>_<shape> (own dense over sparse).
"""

import argparse
import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from actsparse.methods.execute import execute
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme
from actsparse.models.decoding import Times, TransformersDecoder, decoded_nll, make_decoder, time_tokens

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DTYPES = {"f32": (torch.float32, None), "bf16": (torch.bfloat16, None), "int8": (torch.float32, "int8")}
PROMPT = 32
TEXT = Path(__file__).parents[1] / "docs/methods.md"


def main() -> None:
    """Measure what the command line asks for, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shapes", default="135m,1b")
    parser.add_argument("--dtypes", default="f32,bf16,int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64, help="decoded in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transformers", choices=["none", "eager", "compiled"], default="eager",
                        help="compiled: eager and torch.compile (minutes)")  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ratios: dict[str, float] = {}
    for shape in arguments.shapes.split(","):
        for word in arguments.dtypes.split(","):
            model, text = load(shape, arguments.model, DTYPES[word][0], PROMPT + arguments.tokens)
            best = measure(model, text, DTYPES[word][1], arguments)
            load_average = os.getloadavg()[0]
            for name, milliseconds in best.items():
                print(f"{shape:5} {word:5} {name:24} {milliseconds:8.2f} ms a token", flush=True)
            print(
                f"{shape:5} {word:5} (load average {load_average:.1f}, {arguments.threads} threads)",
                flush=True,
            )
            ratios |= {f"{name}_{word}_{shape}": round(ratio, 3) for name, ratio in compared(best).items()}
            del model
            gc.collect()
    print(json.dumps(ratios))


def load(shape: str, folder: Path, dtype: torch.dtype, tokens: int) -> tuple[torch.nn.Module, Tensor]:
    """Return a model and the ids of a text, int64 (1, tokens)."""
    if shape == "135m":
        from transformers import AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        ids = AutoTokenizer.from_pretrained(folder)(TEXT.read_text(), verbose=False)["input_ids"]
        return model.eval().requires_grad_(False), torch.tensor(ids[:tokens])[None]
    config = LlamaConfig(
        vocab_size=49152, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False), torch.randint(10, config.vocab_size, (1, tokens))


def measure(model: torch.nn.Module, text: Tensor, weights: str | None, arguments) -> dict[str, float]:
    """Return each engine's milliseconds a token, of its best turn."""

    def scheme(pattern) -> Scheme:
        return Scheme("input", PROJECTIONS, Magnitude(), pattern, NoMitigation())

    ours = {"dense": None, "8:16": scheme(NOfM(8, 16)), "top-k 50 %": scheme(TopK(0.5))}
    best: dict[str, float] = {}

    def note(name: str, times: Times) -> None:
        best[name] = min(best.get(name, float("inf")), times.median)

    with tempfile.TemporaryDirectory() as folder:
        peer = llama_cpp(model, weights, Path(folder), arguments.threads, text.shape[1])
        for turn in range(arguments.rounds):
            if peer is not None:
                note("llama.cpp", peer(text))
            for name, chosen in ours.items():
                with execute(model, chosen, weights=weights):
                    decoder = make_decoder(model, text.shape[1])
                    if turn == 0:
                        print(
                            f"{name:12} {decoder.name}, nll {decoded_nll(decoder, text, PROMPT):.4f}",
                            flush=True,
                        )
                    note(f"ours, {name}", time_tokens(decoder, text, PROMPT))
            if peer is not None and turn == 0:
                print(f"llama.cpp    nll {peer.nll:.4f}", flush=True)
        words = ["none", "eager", "compiled"]
        for compiled in (False, True)[: words.index(arguments.transformers)] if weights is None else ():
            decoder = TransformersDecoder(model, text.shape[1], compiled)
            for _ in range(2):
                note(decoder.name, time_tokens(decoder, text, PROMPT))
    return best


def compared(best: dict[str, float]) -> dict[str, float]:
    """Return the ratios of the last line, without dtype and shape."""
    dense, sparse, top_k = (best[f"ours, {name}"] for name in ("dense", "8:16", "top-k 50 %"))
    ratios = {"speedup_8_16": dense / sparse, "speedup_top_k": dense / top_k}
    if "llama.cpp" in best:
        ratios |= {"dense_over_llamacpp": dense / best["llama.cpp"]}
        ratios |= {"sparse_over_llamacpp": sparse / best["llama.cpp"]}
    return ratios


class LlamaCpp:
    """llama.cpp on a GGUF file: called with tokens, int64 (1, n), it times those after the prompt."""

    def __init__(self, file: Path, threads: int, length: int):
        import llama_cpp

        self.library, self.length = llama_cpp, length
        options = llama_cpp.llama_model_default_params()
        options.use_mmap = False
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), options)
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_threads, options.n_threads_batch = length, threads, threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.nll = float("nan")

    def __call__(self, text: Tensor) -> Times:
        library, ids, times, nll = self.library, text[0].tolist(), [], []
        library.llama_memory_clear(library.llama_get_memory(self.context), True)
        self._decode(ids[:PROMPT])
        for token in ids[PROMPT:]:
            pointer = library.llama_get_logits(self.context)
            size = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.model))
            logits = torch.tensor(pointer[:size])
            nll.append(torch.nn.functional.cross_entropy(logits, torch.tensor(token)).item())
            start = perf_counter()
            self._decode([token])
            times.append((perf_counter() - start) * 1e3)
        self.nll = sum(nll) / len(nll)
        return Times(times)

    def _decode(self, ids: list[int]) -> None:
        tokens = (self.library.llama_token * len(ids))(*ids)
        if self.library.llama_decode(self.context, self.library.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError("llama.cpp did not decode")
        self.library.llama_synchronize(self.context)


def llama_cpp(model, weights: str | None, folder: Path, threads: int, length: int) -> LlamaCpp | None:
    """Return llama.cpp with the model's weights; None, and a line that says so, where it is not installed."""
    try:
        import ctypes

        import llama_cpp as library
    except ImportError:
        print("llama-cpp-python is not installed: no figures of llama.cpp", flush=True)
        return None
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama_cpp.silent = silent  # llama.cpp keeps the address alone
    library.llama_log_set(silent, ctypes.c_void_p(0))
    file = folder / "model.gguf"
    write_gguf(model, file, weights)
    return LlamaCpp(file, threads, length)


def write_gguf(model: torch.nn.Module, file: Path, weights: str | None) -> None:
    """Write a Llama's weights as GGUF, in the model's type or, for `weights` int8, in Q8_0; no vocabulary."""
    import gguf

    config = model.config
    bf16 = model.dtype == torch.bfloat16
    kind = gguf.GGMLQuantizationType.Q8_0 if weights else gguf.GGMLQuantizationType.BF16 if bf16 else None
    writer = gguf.GGUFWriter(file, "llama")
    size = config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp rotates neighbours, transformers halves
            values = values.view(-1, 2, size // 2, values.shape[1]).transpose(1, 2).reshape(values.shape)
        array = values.numpy()
        target = names.get_name(name, try_suffixes=(".weight",))
        if values.ndim > 1 and kind is not None:
            writer.add_tensor(target, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()

"""The kernels for GPUs, run by Triton's interpreter, against their definitions written out in float64."""

import pytest
import torch
from actsparse.kernels.gpu import products, steps
from actsparse.kernels.gpu.masks import prune_n_of_m
from actsparse.kernels.gpu.products import skip_inputs, skip_outputs
from actsparse.kernels.modes import N_OF_M, NONZERO, THRESHOLD, TOP_K
from actsparse.methods import execute as executing
from actsparse.methods.execution.engines import TritonKernels
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.scorers.wina import Wina
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models import decoding
from tiny_models import load_tiny_model, save_tiny_model, token_windows

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Of the norm of the output; the interpreter rounds numbers of 16 bits towards zero.
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Normal numbers of few values, so that many are tied."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (x * 4).round().div(4).to(dtype)


def best_of(score: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """Which of each m consecutive scores are the n best, one group after the other, the earlier first."""
    mask = torch.zeros(score.shape, dtype=torch.bool)
    for flags, group in zip(mask.view(-1, m), score.reshape(-1, m).tolist(), strict=True):
        for i in sorted(range(m), key=lambda i: (-group[i], i))[:n]:
            flags[i] = True
    return mask


def distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


# ---- masks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (8, 16), (16, 32), (2, 3), (4, 4), (1, 24)])
def test_the_best_of_each_group_survive(dtype, n, m):
    x = drawn(7, m * 5, dtype=dtype)
    pruned, finite = prune_n_of_m(x, None, n, m)
    assert torch.equal(pruned, torch.where(best_of(x.abs(), n, m), x, 0))
    assert finite.item() is True
    for scores in (drawn(7, m * 5, seed=1), drawn(7, m * 5, dtype=dtype, seed=2)):  # of either sign
        assert torch.equal(prune_n_of_m(x, scores, n, m)[0], torch.where(best_of(scores, n, m), x, 0))


def test_both_zeros_are_equal():
    x = torch.tensor([[-0.0, 0.0, 1.0, -0.0]])
    scores = torch.tensor([[-0.0, 0.0, 1.0, 0.0]])
    assert torch.equal(prune_n_of_m(x + 5, scores, 2, 4)[0], torch.tensor([[5.0, 0, 6, 0]]))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_told(wrong, dtype):
    x = drawn(600, 8, dtype=dtype)
    x[-1, -1] = wrong
    assert prune_n_of_m(x, None, 2, 4)[1].item() is False


# ---- products ----------------------------------------------------------------------------------------------

SELECTIONS = {
    "nonzero": (NONZERO, 0, 0, 0.0),
    "level": (THRESHOLD, 0, 0, 0.7),
    "8:16": (N_OF_M, 8, 16, 0.0),
    "2:3": (N_OF_M, 2, 3, 0.0),
    "all equal": (N_OF_M, 4, 4, 0.0),
    "best 50": (TOP_K, 50, 0, 0.0),
    "best 1": (TOP_K, 1, 0, 0.0),
}


def kept_by(name: str, x: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    mode, n, m, level = SELECTIONS[name]
    if mode == NONZERO:
        return x != 0
    if mode == THRESHOLD:
        return score.float() >= level
    return best_of(score, n, m if mode == N_OF_M else x.shape[1])


# The interpreter takes a second for a product of many programs, so that types of 16 bits go through two ways.
CASES = [(name, torch.float32) for name in SELECTIONS] + [
    (name, dtype) for name in ("8:16", "best 50") for dtype in DTYPES[1:]
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_products_with_inputs_skipped(name, dtype, batch):
    d, outs = 144, 200
    x, w = drawn(batch, d, dtype=dtype), drawn(d, outs, dtype=dtype, seed=1)
    if name != "nonzero":
        x = torch.where(x == 0, 0.125, x).to(dtype)
    for factor, bias in ((None, None), (drawn(d, seed=2).abs() + 0.125, drawn(outs, dtype=dtype, seed=3))):
        keep = kept_by(name, x, x.abs() if factor is None else x.float().abs() * factor)
        counts = torch.zeros(2, dtype=torch.int64)
        truth = torch.where(keep, x, 0).double() @ w.double() + (0 if bias is None else bias.double())
        for sizes in ((128, 16, 3, 4), (128, 32, 3, 4)):  # the second time counters must be at zero again
            y = skip_inputs(x[:, None], w, None, bias, *SELECTIONS[name], factor, counts, sizes)
            assert y.shape == (batch, 1, outs)
            assert distance(y[:, 0], truth) < TOLERANCES[dtype]
        read = int(keep.any(0).sum()) * outs * w.element_size()
        assert counts.tolist() == [2 * read, 2 * w.nbytes]


def test_products_with_weights_in_eight_bits():
    x, scale = drawn(1, 64), torch.rand(32) + 0.1
    w = torch.randint(-127, 128, (64, 32), dtype=torch.int8)
    counts = torch.zeros(2, dtype=torch.int64)
    y = skip_inputs(x, w, scale, None, N_OF_M, 2, 4, 0.0, None, counts)
    kept = torch.where(best_of(x.abs(), 2, 4), x, 0).double()
    assert distance(y, kept @ (w.double() * scale.double())) < 1e-6
    assert counts.tolist() == [32 * 32, 64 * 32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_products_with_outputs_skipped(dtype, batch):
    x, w, bias = drawn(batch, 144, dtype=dtype), drawn(200, 144, dtype=dtype), drawn(200, dtype=dtype)
    keep = drawn(batch, 200, seed=4) > 0.3
    counts = torch.zeros(2, dtype=torch.int64)
    y = skip_outputs(x, w, None, bias, keep, counts)
    truth = torch.where(keep, x.double() @ w.double().T + bias.double(), 0)
    assert distance(y, truth) < TOLERANCES[dtype]
    assert (y[~keep] == 0).all()
    assert counts.tolist() == [int(keep.any(0).sum()) * 144 * w.element_size(), w.nbytes]


# ---- steps between products --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_residual_and_norm(dtype):
    hidden, delta, weight = (
        drawn(3, 1, 144, dtype=dtype),
        drawn(3, 1, 144, dtype=dtype),
        drawn(144, dtype=dtype),
    )
    for more in (None, delta):
        total = hidden.double() if more is None else (hidden + delta).double()
        truth = weight.double() * total / (total.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        given = hidden.clone()
        y = steps.add_norm(given, more, weight, 1e-5)
        assert distance(y, truth) < TOLERANCES[dtype]
        assert distance(given, total) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gate(dtype):
    both = drawn(2, 1, 300, dtype=dtype)
    gate, up = both.double().split(150, dim=-1)
    assert distance(steps.gated(both), gate / (1 + (-gate).exp()) * up) < 2 * TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("position", [0, 5, 64, 90])
def test_attention_of_one_token(dtype, position):
    heads, groups, size, length = 6, 2, 16, 100
    token = drawn(2, 1, (heads + 2 * groups) * size, dtype=dtype)
    keys, values = (
        drawn(2, groups, length, size, dtype=dtype, seed=1),
        drawn(2, groups, length, size, dtype=dtype),
    )
    angle = torch.rand(length, size // 2).repeat(1, 2)
    q, k, v = token.double().reshape(2, -1, size).split([heads, groups, groups], dim=1)

    def turned(x):
        a, b = x.chunk(2, -1)
        return x * angle[position].double().cos() + torch.cat([-b, a], -1) * angle[position].double().sin()

    q, k = turned(q), turned(k)
    all_keys = torch.cat([keys[:, :, :position].double(), k[:, :, None]], 2).repeat_interleave(3, 1)
    all_values = torch.cat([values[:, :, :position].double(), v[:, :, None]], 2).repeat_interleave(3, 1)
    weights = (torch.einsum("bhd,bhtd->bht", q, all_keys) * 0.25).softmax(-1)
    truth = torch.einsum("bht,bhtd->bhd", weights, all_values).reshape(2, 1, -1)
    later = keys[:, :, position + 1 :].clone()
    y = steps.attend(token, angle.cos(), angle.sin(), keys, values, torch.tensor([position]), 0.25)
    assert distance(y, truth) < 2 * TOLERANCES[dtype]
    assert distance(keys[:, :, position], k) < TOLERANCES[dtype]
    assert torch.equal(values[:, :, position].double(), v)
    assert torch.equal(keys[:, :, position + 1 :], later)


# ---- a whole model -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [None, NOfM(2, 4), TopK(0.5)], ids=str)
def test_a_model_decodes_by_the_kernels(tmp_path, monkeypatch, pattern):
    model = load_tiny_model(save_tiny_model("llama", tmp_path / "model"))
    scheme = None if pattern is None else Scheme("input", ALL, Wina(), pattern, NoMitigation())
    ids = token_windows(2, 6)
    with torch.inference_mode(), sparsify(model, scheme):
        wanted = model(input_ids=ids).logits.double()
    monkeypatch.setattr(executing, "pick_engine", lambda *_: TritonKernels())
    monkeypatch.setattr(decoding, "_steps", lambda device: steps)
    monkeypatch.setattr(products, "WANTED_PROGRAMS", 2)  # for the interpreter's sake
    forward = decoding.LeanDecoder.forward
    monkeypatch.setattr(
        decoding.LeanDecoder, "forward", lambda self, ids, at: forward(self, ids, torch.tensor([at]))
    )
    with executing.execute(model, scheme) as running:
        decoder = decoding.make_decoder(model, 12, batch=2)
        found = [decoder.prompt(ids[:, :4]), *(decoder.step(some) for some in ids[:, 4:].unbind(1))]
        assert running.weight_bytes_read > 0
        assert (running.executed_sparsity > 0) == (pattern is not None)
    assert distance(torch.stack(found, 1), wanted[:, 3:]) < 1e-5


def test_masks_of_a_whole_study_take_the_kernel_on_a_gpu(monkeypatch):
    from actsparse.methods.patterns import kernels

    monkeypatch.setattr(kernels, "fits", lambda *_: False)
    monkeypatch.setattr(kernels, "fits_gpu", lambda *_: True)
    x = drawn(3, 64)
    pruned, kept, finite = NOfM(8, 16).prune(x, None)
    assert torch.equal(pruned, torch.where(best_of(x.abs(), 8, 16), x, 0))
    assert (kept, bool(finite)) == (96, True)

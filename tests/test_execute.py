"""Executed schemes against their definitions, written out in float64; and against `sparsify`."""

import math

import pytest
import torch
from actsparse.calibration.statistics import measure_statistics
from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import pack
from actsparse.codebooks.pattern import CodebookPattern, Signed
from actsparse.codebooks.router import Router
from actsparse.kernels.cpu import build
from actsparse.methods.building import with_options
from actsparse.methods.execute import CannotExecute, execute
from actsparse.methods.execution.products import PlainTorch
from actsparse.methods.mitigations import MITIGATIONS
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.full import Full
from actsparse.methods.patterns.n_of_m import NOfM
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.patterns.top_k import TopK
from actsparse.methods.patterns.top_k_table import TopKTable
from actsparse.methods.scorers import SCORERS
from actsparse.methods.scorers.cats import Cats
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.decoding import (
    LeanDecoder,
    TransformersDecoder,
    decoded_nll,
    generate,
    make_decoder,
    time_tokens,
)
from actsparse.models.sites import find_sites
from tiny_models import CONFIGS, UNGATED, load_tiny_model, save_tiny_model, token_windows
from transformers import DynamicCache

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
NETWORK = ("gate_proj", "up_proj", "down_proj")
ALL = ATTENTION + NETWORK
SEED = 3
LEVELS = {word: {f"layer_{i}": 0.2 + 0.1 * i + 0.1 * (word == "k_proj") for i in range(2)} for word in ALL}
PATTERNS = {
    "2:4": NOfM(2, 4),
    "8:16": NOfM(8, 16),
    "top_k": TopK(0.4),
    "top_k_table": TopKTable(LEVELS),
    "threshold": Threshold(LEVELS),
    "full": Full(),
}
SCORER_WORDS = ("magnitude", "wina", "amber", "clact", "random")
MITIGATION_WORDS = (
    "none", "variance", "shift", "shift_mean", "shift_static", "learned_shift", "scale_shift",
    "variance_scale_shift", "smoothing", "low_rank",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    """The kernels, in whatever cache the user has; where they cannot be built these tests say so."""
    assert build.load_kernels() is None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return lambda architecture: load_tiny_model(save_tiny_model(architecture, folder / architecture))


@pytest.fixture(scope="module")
def options(saved):
    """What scorers and mitigations ask for, drawn; for the tiny Qwen2, whose projections have biases."""
    model = saved("qwen2")
    generator = torch.Generator().manual_seed(1)
    table = {}
    for site in find_sites(model, ALL, "input"):
        sizes = {"eta": site.width, "scale": site.out_features, "shift": site.out_features}
        table[site.module_name] = {
            what: torch.randn(n, generator=generator) / 10 for what, n in sizes.items()
        }
    statistics = measure_statistics(model, token_windows(3, 20), ALL)
    return {"statistics": statistics, "parameters": table, "rank": 4, "seed": SEED}


def inputs_scheme(options, scorer="magnitude", pattern="8:16", mitigation="none", projections=ALL) -> Scheme:
    return Scheme(
        "input",
        projections,
        with_options(SCORERS[scorer].load(), options),
        PATTERNS[pattern],
        with_options(MITIGATIONS[mitigation].load(), options),
    )


# ---- the definitions ---------------------------------------------------------------------------------------


def scores_of(x, weight, scorer: str, name: str, options) -> torch.Tensor:
    """Scores (rows, d) as docs/methods.md has them, in the type that masks are made in."""
    if scorer == "magnitude":
        return x.abs()
    if scorer == "random":
        return SCORERS["random"].load()(SEED).score(x[:, None], named(name))[:, 0]
    x, weight = x.float(), weight.float()
    if scorer == "wina":
        return x.abs() * weight.pow(2).sum(0).sqrt()
    if scorer == "clact":
        return x.abs() * (options["statistics"][name]["norm"] / x.pow(2).sum(1, keepdim=True).sqrt())
    entries = weight.flatten().sort().values
    inner = entries[math.ceil(0.005 * (len(entries) - 1)) : math.floor(0.995 * (len(entries) - 1)) + 1]
    norms = ((weight - inner.mean()) / inner.std()).pow(2).sum(0).sqrt()
    return x.abs() * (norms / norms.min())


class named:
    """A site of which a scorer reads the name alone."""

    def __init__(self, name):
        self.name = name


def mask_of(scores, pattern: str, site) -> torch.Tensor:
    """Which elements of (rows, d) survive, ties to the earlier one."""
    mask = torch.zeros(scores.shape, dtype=torch.bool)
    for row, marks in zip(scores.float().tolist(), mask, strict=True):
        if pattern == "threshold":
            level = torch.tensor(LEVELS[site.projection][f"layer_{site.layer}"]).item()
            kept = [i for i, score in enumerate(row) if score >= level]
        else:
            if ":" in pattern:
                n, m = map(int, pattern.split(":"))
            else:
                m = len(row)
                dropped = 0.4 if pattern == "top_k" else LEVELS[site.projection][f"layer_{site.layer}"]
                n = m - math.floor(round(dropped * m, 9))
            kept = []
            for start in range(0, len(row), m):
                group = range(start, start + m)
                kept += sorted(group, key=lambda i: (-row[i], i))[:n]
        marks[kept] = True
    return mask


def defined(x, site, scorer, pattern, mitigation, options) -> torch.Tensor:
    """The layer's output (rows, out) in float64, of x (rows, d) in the model's type."""
    name, rows = site.module_name, options["parameters"][site.module_name]
    statistics = options["statistics"][name]
    weight, exact = site.module.weight.double(), x.double()
    bias = 0 if site.module.bias is None else site.module.bias.double()
    eta, scale = 0, 1
    if mitigation == "shift":
        eta = x.sort(dim=1).values[:, (x.shape[1] - 1) // 2, None]
    elif mitigation == "shift_mean":
        eta = x.float().mean(1, keepdim=True).to(x.dtype)
    elif mitigation == "shift_static":
        eta = statistics["centre"].to(x.dtype)
    elif mitigation == "learned_shift":
        eta = rows["eta"].to(x.dtype)
    elif mitigation == "smoothing":
        largest = site.module.weight.abs().amax(0).float()
        scale = (statistics["maximum"] / largest).sqrt().to(x.dtype)
    prepared = (x - eta) / scale
    mask = mask_of(scores_of(prepared, site.module.weight, scorer, name, options), pattern, site)
    kept = torch.where(mask, prepared.double(), 0) * scale + eta
    if "variance" in mitigation:
        kept = kept * (exact.var(1, keepdim=True) / kept.var(1, keepdim=True)).sqrt()
    y = kept @ weight.T + bias
    if mitigation == "low_rank":
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        y = y + (exact - kept) @ (u[:, :4] * s[:4] @ v[:4]).T
    if "scale_shift" in mitigation:
        y = y * (1 + rows["scale"].double()) + rows["shift"].double()
    return y


def distance(found, wanted) -> float:
    return ((found.double() - wanted).norm() / wanted.norm()).item()


# ---- layer by layer ----------------------------------------------------------------------------------------

CASES = [
    *[(scorer, pattern, "none") for scorer in SCORER_WORDS for pattern in PATTERNS if pattern != "full"],
    *[("magnitude", pattern, mitigation) for pattern in ("2:4", "top_k") for mitigation in MITIGATION_WORDS],
    ("wina", "2:4", "learned_shift"),
    ("amber", "top_k", "low_rank"),
]


@pytest.mark.parametrize("scorer, pattern, mitigation", sorted(set(CASES)))
@pytest.mark.parametrize("dtype, within", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_inputs_layer_by_layer(saved, options, scorer, pattern, mitigation, dtype, within):
    model = saved("qwen2").to(dtype)
    scheme = inputs_scheme(options, scorer, pattern, mitigation)
    sites = find_sites(model, ALL, "input")
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(3, 1, site.width, generator=generator).to(dtype) for site in sites]
    wanted = [
        defined(x[:, 0], site, scorer, pattern, mitigation, options)
        for x, site in zip(xs, sites, strict=True)
    ]
    with execute(model, scheme) as running, torch.inference_mode():
        assert running.engine.name == "cpu kernels"
        for x, site, right in zip(xs, sites, wanted, strict=True):
            layer = model.get_submodule(site.module_name)
            assert distance(layer(x)[:, 0], right) < within, site.name
            if scorer != "random":  # whose mask depends on the place in the batch
                alone = torch.cat([layer(row[None]) for row in x])[:, 0]
                assert distance(alone, right) < within, site.name


@pytest.mark.parametrize("dtype, within", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("words", [("gate_proj",), ("up_proj",), ("gate_proj", "up_proj"), NETWORK])
@pytest.mark.parametrize("scorer", ["magnitude", "cats"])
def test_outputs_layer_by_layer(saved, words, scorer, dtype, within):
    model = saved("llama").to(dtype)
    family = {"magnitude": Magnitude, "cats": Cats}[scorer]
    if scorer == "cats" and "down_proj" in words:
        words = words[:2]
    scheme = Scheme("output", words, family(), Threshold(LEVELS), NoMitigation())
    x = torch.randn(3, 1, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    blocks = [layer.mlp for layer in model.model.layers]

    def network(i: int, block) -> torch.Tensor:
        def pruned(y, word):
            score = (torch.nn.functional.silu(y) if scorer == "cats" else y).abs()
            keep = score.float() >= torch.tensor(LEVELS[word][f"layer_{i}"])
            return torch.where(keep, y.double(), 0) if word in words else y.double()

        gate, up = (pruned(getattr(block, word)(x), word) for word in NETWORK[:2])
        hidden = torch.nn.functional.silu(gate) * up
        return pruned((hidden @ block.down_proj.weight.double().T).to(dtype), "down_proj")

    with torch.inference_mode():
        wanted = [network(i, block) for i, block in enumerate(blocks)]
        with execute(model, scheme) as running:
            for layer, right in zip(model.model.layers, wanted, strict=True):
                assert distance(layer.mlp(x), right) < within
                assert distance(torch.cat([layer.mlp(row[None]) for row in x]), right) < within
        assert 0 < running.executed_sparsity < 1


def test_ties_go_to_the_earlier_input(saved, options):
    model = saved("llama")
    site = find_sites(model, ("o_proj",), "input")[0]
    x = torch.tensor([1.0, -1.0, 2.0, 2.0] * 8)[None, None]
    for pattern in ("2:4", "8:16", "top_k"):
        mask = mask_of(x[0].abs(), pattern, site)
        wanted = torch.where(mask, x[0].double(), 0) @ site.weight.double().T
        with execute(model, inputs_scheme(options, pattern=pattern)), torch.inference_mode():
            assert distance(model.get_submodule(site.module_name)(x)[0], wanted) < 1e-5


@pytest.mark.parametrize("rows", range(1, 10))
def test_batches(saved, options, rows):
    """Up to eight rows skip, nine are a prompt; the numbers are right either way."""
    model = saved("llama")
    site = find_sites(model, ("down_proj",), "input")[0]
    x = torch.randn(rows, 1, site.width, generator=torch.Generator().manual_seed(rows))
    kept = mask_of(x[:, 0].abs(), "8:16", site)
    wanted = torch.where(kept, x[:, 0].double(), 0) @ site.weight.double().T
    union = int(kept.any(0).sum()) * site.out_features * 4
    with execute(model, inputs_scheme(options)) as running, torch.inference_mode():
        assert distance(model.get_submodule(site.module_name)(x)[:, 0], wanted) < 1e-5
        assert running.weight_bytes_read == (union if rows <= 8 else 0)


# ---- whole models ------------------------------------------------------------------------------------------


def decode(model, ids: torch.Tensor) -> torch.Tensor:
    """Logits (batch, tokens, vocabulary) of tokens that are fed one after the other."""
    cache = DynamicCache(config=model.config.get_text_config())
    with torch.inference_mode():
        return torch.cat([model(some, past_key_values=cache).logits for some in ids.split(1, 1)], 1)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("pattern", ["2:4", "top_k", "full"])
def test_whole_models_in_float64(saved, options, architecture, pattern):
    model = saved(architecture).double()
    words = (".*",) if architecture in UNGATED else ALL
    scheme = inputs_scheme(options, pattern=pattern, projections=words)
    ids = token_windows(2, 6)
    with sparsify(model, scheme):
        wanted = decode(model, ids)
    with execute(model, scheme) as running:
        assert running.engine.name == PlainTorch.name
        found = decode(model, ids)
    assert (found - wanted).abs().max() < 1e-9
    # OPT's ReLU makes zeros of its own, which are skipped as well.
    assert (running.executed_sparsity == 0) == (pattern == "full" and architecture != "opt")


@pytest.mark.parametrize("words", [("gate_proj",), ("gate_proj", "up_proj")])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen3"])
def test_outputs_of_whole_models_in_float64(saved, architecture, words):
    model = saved(architecture).double()
    scheme = Scheme("output", words, Cats(), Threshold(LEVELS), NoMitigation())
    ids = token_windows(2, 6)
    with sparsify(model, scheme):
        wanted = decode(model, ids)
    with execute(model, scheme):
        found = decode(model, ids)
    assert (found - wanted).abs().max() < 1e-9


def routed(model, combine: str, joint: bool) -> CodebookPattern:
    """Random centroids, 8 for each projection of each layer, and random routers."""
    generator = torch.Generator().manual_seed(5)
    codebooks, routers = {}, {}
    for word in NETWORK[:2]:
        masks = torch.rand(2, 1, 8, 96, generator=generator) < 0.5
        codebooks[word] = Codebook(pack(masks), None, 96, [])
        for i in range(2):
            router = Router((torch.randn(8, 48, generator=generator),), torch.zeros(8), 1)
            routers[f"{word}.layer_{i}"] = router
    return CodebookPattern(LEVELS, codebooks, combine, routers, joint)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("combine", ["and", "replace"])
def test_routed_codebooks_in_float64(saved, combine, joint):
    """The centroid's rows of gate and up, known before they run, and columns of down."""
    model = saved("llama").double()
    scheme = Scheme("output", NETWORK[:2], Signed(), routed(model, combine, joint), NoMitigation())
    ids = token_windows(2, 6)
    with sparsify(model, scheme):
        wanted = decode(model, ids)
    with execute(model, scheme) as running:
        found = decode(model, ids)
        running.reset()
        decode(model, ids[:1])
    assert (found - wanted).abs().max() < 1e-9
    assert 0.4 < running.executed_sparsity < 0.9


@pytest.mark.parametrize("architecture", CONFIGS)
def test_architectures_by_the_kernels(saved, options, architecture):
    """Token by token through the kernels, against all at once with zeros multiplied; both prefills."""
    model = saved(architecture)
    scheme = inputs_scheme(options, pattern="2:4", projections=(".*",) if architecture in UNGATED else ALL)
    ids = token_windows(1, 9)
    with sparsify(model, scheme), torch.inference_mode():
        wanted = model(ids).logits.double()
    with execute(model, scheme) as running:
        assert running.engine.name == "cpu kernels"
        assert distance(decode(model, ids), wanted) < 1e-4
        assert running.executed_sparsity == 0.5
        with torch.inference_mode():
            assert distance(model(ids).logits, wanted) < 1e-4
    with torch.inference_mode():
        dense = model(ids).logits.double()
        with execute(model, scheme, prefill="dense"):
            assert distance(model(ids).logits, dense) < 1e-5


def test_perplexities_agree(saved, options):
    model = saved("llama")
    text = token_windows(2, 40)
    for pattern in ("2:4", "top_k", "threshold"):
        scheme = inputs_scheme(options, pattern=pattern)
        decoder = TransformersDecoder(model, 40)
        with sparsify(model, scheme):
            wanted = decoded_nll(decoder, text)
        with execute(model, scheme):
            assert decoded_nll(decoder, text) == pytest.approx(wanted, rel=1e-4)


# ---- what is counted, and what is put back -----------------------------------------------------------------


def test_bytes_are_counted(saved, options):
    model = saved("llama")
    linear = [site.module for site in find_sites(model, (".*",), "input")]
    layers = sum(module.weight.nbytes for module in linear)
    head = model.lm_head.weight.nbytes
    with execute(model, inputs_scheme(options)) as running:
        decode(model, token_windows(1, 3))
        assert running.weight_bytes_read == 3 * (layers // 2 + head)
        assert running.executed_sparsity == 0.5
        running.reset()
        assert running.weight_bytes_read == 0
    with execute(model, None) as running:
        decode(model, token_windows(1, 3))
        assert running.weight_bytes_read == 3 * (layers + head)
        assert running.executed_sparsity == 0.0


def storages(model) -> int:
    """Bytes of all memory that the model's linear layers and embeddings hold."""
    held = [
        tensor for module in model.modules() for tensor in module._parameters.values() if tensor is not None
    ]
    for module in model.modules():
        product = getattr(module, "product", None)
        if product is not None:
            held += [product.weights.values, *(layer.weight for layer in product.weights.layers)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}.values())


@pytest.mark.parametrize("architecture", CONFIGS)
def test_weights_are_moved_not_doubled_and_put_back(saved, options, architecture):
    model = saved(architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modules, memory = dict(model.named_modules()), storages(model)
    with execute(model, inputs_scheme(options, projections=(".*",))):
        assert storages(model) <= 1.05 * memory
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(tensor.is_contiguous() for tensor in model.state_dict().values())
    assert storages(model) <= memory


def test_weights_are_put_back_after_an_error(saved, options):
    model = saved("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"^out$"), execute(model, inputs_scheme(options)):
        raise RuntimeError("out")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype, within", [(torch.float32, 2e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("sparse", [False, True])
def test_int8_weights(saved, options, dtype, within, sparse):
    model = saved("qwen2").to(dtype)
    site = find_sites(model, ("down_proj",), "input")[0]
    exact = site.weight.float()
    scale = exact.abs().amax(1, keepdim=True) / 127
    rounded = (exact / scale).round().double() * scale.double()
    x = torch.randn(2, 1, site.width, generator=torch.Generator().manual_seed(0)).to(dtype)
    kept = mask_of(x[:, 0].abs(), "8:16", site) if sparse else torch.ones(2, site.width, dtype=torch.bool)
    wanted = torch.where(kept, x[:, 0].double(), 0) @ rounded.T
    scheme = inputs_scheme(options) if sparse else None
    with execute(model, scheme, weights="int8") as running, torch.inference_mode():
        assert distance(model.get_submodule(site.module_name)(x)[:, 0], wanted) < within
        assert running.weight_bytes_read == int(kept.any(0).sum()) * site.out_features
        prompt = x.expand(2, 8, -1)
        assert distance(model.get_submodule(site.module_name)(prompt)[:, 0], wanted) < max(within, 1e-2)
    assert distance(site.weight, rounded) < (1e-6 if dtype == torch.float32 else 5e-3)


def test_int8_leaves_a_tied_embedding(saved):
    from actsparse.models.loading import AutoModelForCausalLM
    from transformers import LlamaConfig

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    before = model.model.embed_tokens.weight.clone()
    with execute(model, None, weights="int8"), torch.inference_mode():
        model(torch.tensor([[1]]))
        assert torch.equal(model.model.embed_tokens.weight, before)
    assert torch.equal(model.model.embed_tokens.weight, before)
    assert model.lm_head.weight is model.model.embed_tokens.weight


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture, scheme, reason",
    [
        ("llama", ("output", ("q_proj",), Magnitude(), Threshold(LEVELS)), "known after the product"),
        ("llama", ("output", ("down_proj",), Magnitude(), Threshold(LEVELS)), "known after the product"),
        ("llama", ("output", NETWORK[:2], Magnitude(), TopK(0.5)), "compares outputs of up_proj"),
        ("phi3", ("output", ("gate_proj",), Magnitude(), Threshold(LEVELS)), "Phi3MLP has no gate_proj"),
        ("opt", ("output", ("up_proj",), Magnitude(), Threshold(LEVELS)), "has no gate_proj"),
    ],
)
def test_outputs_that_save_nothing_are_refused(saved, architecture, scheme, reason):
    model = saved(architecture)
    modules = dict(model.named_modules())
    with (
        pytest.raises(CannotExecute, match=reason) as caught,
        execute(model, Scheme(*scheme, NoMitigation())),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert dict(model.named_modules()) == modules


def test_a_codebook_without_routers_is_refused(saved):
    model = saved("llama")
    pattern = routed(model, "and", True)
    pattern.routers = None
    scheme = Scheme("output", NETWORK[:2], Signed(), pattern, NoMitigation())
    with pytest.raises(CannotExecute, match="without routers"), execute(model, scheme):
        pass


def test_mitigations_that_are_refused(saved, options):
    model = saved("qwen2")
    scheme = inputs_scheme(
        {**options, "as_published": True, "pattern": NOfM(2, 4)}, mitigation="learned_shift"
    )
    with pytest.raises(CannotExecute, match="learned_shift as published"), execute(model, scheme):
        pass

    class Doubling(NoMitigation):
        pass

    scheme = Scheme("input", ALL, Magnitude(), NOfM(2, 4), Doubling())
    with pytest.raises(CannotExecute, match="mitigation Doubling"), execute(model, scheme):
        pass
    scheme = Scheme("output", ("gate_proj",), Magnitude(), Threshold(LEVELS), Doubling())
    with pytest.raises(CannotExecute, match="mitigation Doubling of outputs"), execute(model, scheme):
        pass


def test_an_activation_function_that_moves_zero_is_refused(saved):
    model = saved("llama")
    for layer in model.model.layers:
        layer.mlp.act_fn = torch.nn.Sigmoid()
    scheme = Scheme("output", ("gate_proj",), Magnitude(), Threshold(LEVELS), NoMitigation())
    with pytest.raises(CannotExecute, match="does not keep zero zero"), execute(model, scheme):
        pass


def test_pruned_weights_run_as_dense_and_say_so(saved):
    model = saved("llama")
    scheme = Scheme("weight", ALL, Magnitude(), NOfM(2, 4), NoMitigation())
    ids = token_windows(1, 4)
    with sparsify(model, scheme):
        wanted = decode(model, ids).double()
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    with execute(model, scheme) as running:
        assert distance(decode(model, ids), wanted) < 1e-5
        assert "runs as dense" in running.refused
        assert running.executed_sparsity == 0.0
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


def test_words_that_are_not_allowed(saved):
    with (
        pytest.raises(ValueError, match="prefill: 'fast' is not allowed"),
        execute(saved("llama"), None, prefill="fast"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="weights: 'int4' is not allowed"),
        execute(saved("llama"), None, weights="int4"),
    ):
        pass


# ---- decoders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("batch", [1, 3])
def test_decoders_give_the_models_logits(saved, architecture, batch):
    model = saved(architecture)
    ids = token_windows(batch, 12)
    with torch.inference_mode():
        wanted = model(ids).logits.double()
    with execute(model, None):
        decoder = make_decoder(model, 12, batch)
        lean = isinstance(decoder, LeanDecoder)
        assert lean == (architecture in ("llama", "mistral", "qwen2"))
        logits = [decoder.prompt(ids[:, :5]), *(decoder.step(some) for some in ids[:, 5:].unbind(1))]
    assert distance(torch.stack(logits, 1), wanted[:, 4:]) < 1e-4


def test_a_bfloat16_model_decodes_as_transformers_does(saved):
    model = saved("qwen2").bfloat16()
    ids = token_windows(2, 12)
    with execute(model, None):
        found, wanted = [], []
        for decoder, logits in (
            (make_decoder(model, 12, 2), found),
            (TransformersDecoder(model, 12), wanted),
        ):
            logits += [decoder.prompt(ids[:, :5]), *(decoder.step(some) for some in ids[:, 5:].unbind(1))]
    assert distance(torch.stack(found), torch.stack(wanted).double()) < 3e-2


def test_generating_and_timing(saved):
    model = saved("llama")
    prompt = token_windows(1, 4)
    wanted = prompt
    with torch.inference_mode():
        for _ in range(5):
            wanted = torch.cat([wanted, model(wanted).logits[:, -1:].argmax(-1)], 1)
    with execute(model, None):
        decoder = make_decoder(model, 16)
        assert torch.equal(generate(decoder, prompt, 5), wanted[:, 4:])
        times = time_tokens(decoder, token_windows(1, 10), 4)
    assert len(times.milliseconds) == 6
    first, median, third = times.quartiles
    assert 0 < min(times.milliseconds) <= first <= median <= third <= max(times.milliseconds)


# ---- building ----------------------------------------------------------------------------------------------


def test_torch_compile_keeps_the_operators_in_its_graph(saved, options):
    model = saved("llama")
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    with execute(model, inputs_scheme(options)), torch.inference_mode():
        network = model.model.layers[0].mlp
        x = torch.randn(1, 1, 48)
        wanted = network(x)
        torch._dynamo.reset()
        found = torch.compile(network, backend=backend, fullgraph=True)(x)
    assert torch.equal(found, wanted)
    called = [str(node.target) for graph in graphs for node in graph.graph.nodes]
    assert sum("skip_inputs" in name for name in called) == 2  # gate and up are one product


def test_a_missing_compiler_is_one_line(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reason = build.load_kernels.__wrapped__()
    assert reason == "no C++ compiler 'no-such-compiler' was found (set CXX, or install g++)"
    assert len(caplog.messages) == 1


def test_a_failing_build_is_one_line(monkeypatch, tmp_path, caplog):
    broken = tmp_path / "broken.cpp"
    broken.write_text("int f( {\n")
    monkeypatch.setattr(build, "SOURCES", [broken])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reason = build.load_kernels.__wrapped__()
    assert reason.startswith("the kernels could not be built or loaded: ")
    assert "error" in reason and "\n" not in reason
    assert not list(tmp_path.rglob("*.so"))

"""How much memory a job asks for: what it holds when it holds most, added up.

Terms are bytes, from a model's sizes (`shape`, in the words of `models/sizes.py`), the type of its numbers
and how many tokens pass at once:

    libraries    what is there before a model is
    weights      of the whole model, embedding and output matrix both, tied or not
    layer_work   what a decoder layer makes of the tokens that pass
    watched      what a stage makes of the activations at a projection, for each number at the widest one
    hidden       hidden states of all calibration windows, where a stage goes through the model layer by layer
    weighing     what a method makes of the largest weight, for each of its numbers

and what a stage has of its own: logits, Hessians, patterns, centroids, routers. `asked_mb` adds them up. A
GPU's host is asked for the same, for nothing is taken off where weights lie on the GPU, and for CUDA's
libraries.

How many bytes a number costs in a stage was read off the code and held to what `benchmarks/rehearsal.py`
measured.
"""

from math import ceil

Shape = dict[str, int]

MB = 2**20
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# What allocators keep and no sum has.
MARGIN = 1.05
# Blocks up to this size stay with the process once they are free (glibc); larger ones are given back.
KEPT_BLOCK = 2**25
# Asked for where a model's sizes are not known.
UNKNOWN_MB = 4000

# Python, torch, transformers, numba, and Triton, which torch's builds for GPUs bring along; measured. CUDA's
# part on the host is an assumption.
LIBRARIES_MB, CUDA_MB = 570, 1500

# For each number at the widest projection.
HISTOGRAMS, STATISTICS, PATTERNS, WEIGHTED, SEARCH, TRAINING = 8, 16, 8, 8, 6, 20
PRUNING, OTHERWISE, CODEBOOKS = 1, 10, 4

# For each number of the largest weight: what ranks or corrects with it; what prunes it.
WEIGHING = {"amber": 20, "low_rank": 32, "wina": 4}
PRUNING_WEIGHT = 16

# A pattern store: shards, of which one is mapped or waits to be written; blocks, kept where all have room.
SHARD, BLOCK, CACHE = 2**28, 2**26, 2**30
WEIGHED_ROWS = 2**14  # patterns that are weighed at a time
PLANES = 1 + 6 + 8  # bits of a weighted neuron: whether it is active, its weight in assignment and in update
KEPT = 64  # tokens of a prediction that are stored
BIN_BYTES = 8 * 45058  # of a histogram


def asked_mb(*terms: float) -> int:
    """Return the sum of terms, bytes, with its margin, in MB (2^20 bytes)."""
    return ceil(MARGIN * sum(terms) / MB)


def libraries(gpu: bool = False, others_mb: int = 0) -> int:
    """Return what libraries take; `others_mb` are those of a benchmark."""
    return MB * (LIBRARIES_MB + others_mb + CUDA_MB * gpu)


def layer_weights(shape: Shape) -> dict[str, int]:
    """Return how many numbers the weights of a decoder layer have, by projection."""
    hidden, inner, heads = (
        shape["hidden_size"],
        shape["intermediate_size"],
        shape.get("num_attention_heads", 1),
    )
    head = shape.get("head_dim", hidden // heads)
    queries, keys = heads * head, shape.get("num_key_value_heads", heads) * head
    attention = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": queries}
    return {
        **{word: hidden * width for word, width in attention.items()},
        **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), hidden * inner),
    }


def weights(shape: Shape, dtype: str) -> int:
    """Return the bytes of a model's weights, norms left out."""
    layers = shape["num_hidden_layers"] * sum(layer_weights(shape).values())
    return BYTES[dtype] * (2 * shape["vocab_size"] * shape["hidden_size"] + layers)


def layer_work(shape: Shape, dtype: str, tokens: int) -> int:
    """Return what a decoder layer holds of `tokens`.

    That is the hidden states eight times in the attention, or twice, with the feed-forward network's neurons
    three times.
    """
    sizes, inner = shape["hidden_size"], shape["intermediate_size"]
    return tokens * BYTES[dtype] * max(8 * sizes, 2 * sizes + 3 * inner)


def watched(shape: Shape, dtype: str, tokens: int, each: int) -> int:
    """Return what a layer holds of `tokens` while a stage makes `each` byte of a projection's numbers."""
    sizes, inner = shape["hidden_size"], shape["intermediate_size"]
    held = tokens * BYTES[dtype] * (2 * sizes + 2 * inner)
    return max(layer_work(shape, dtype, tokens), held + tokens * max(sizes, inner) * each)


def hidden(shape: Shape, dtype: str, tokens: int) -> int:
    """Return the hidden states between two layers of all `tokens`."""
    return tokens * shape["hidden_size"] * BYTES[dtype]


def histograms(shape: Shape, dtype: str, length: int) -> int:
    """Return what counting magnitudes needs, windows of `length` tokens passing one by one."""
    bins = 2 * 7 * shape["num_hidden_layers"] * BIN_BYTES
    return weights(shape, dtype) + watched(shape, dtype, length, HISTOGRAMS) + bins


def statistics(shape: Shape, dtype: str, length: int) -> int:
    """Return what statistics of inputs need: their squares in float64, and sorted for the median."""
    sums = 3 * 8 * 7 * shape["num_hidden_layers"] * max(shape["hidden_size"], shape["intermediate_size"])
    return weights(shape, dtype) + watched(shape, dtype, length, STATISTICS) + sums


def patterns(
    shape: Shape,
    dtype: str,
    length: int,
    windows: int,
    stored: int,
    magnitudes: str | None,
    values: bool = False,
) -> int:
    """Return what extracting patterns needs, `stored` of each projection.

    Maybe with `magnitudes` of that type, maybe with `values` in the model's.

    A shard waits until it is full and its last window is over. Its buffers are doubled when they are full,
    which leaves holes between them: two and a half times what waits was measured.
    """
    neurons = 2 * shape["intermediate_size"] + shape["hidden_size"]
    bits = 1 + (8 * {"uint8": 1, "bfloat16": 2}[magnitudes] if magnitudes else 0) + 8 * BYTES[dtype] * values
    every = stored * neurons * bits // 8
    waiting = 5 * min(every, SHARD + every // windows) // 2
    counts = 8 * shape["num_hidden_layers"] * neurons * (2 if magnitudes else 1)
    each = PATTERNS + WEIGHTED * bool(magnitudes)
    return weights(shape, dtype) + watched(shape, dtype, length, each) + waiting + counts


def search(shape: Shape, dtype: str, length: int, windows: int) -> int:
    """Return what TEAL's search needs: a layer's dense output of all windows, beside their hidden states."""
    held = 2 * hidden(shape, dtype, windows * length)
    return weights(shape, dtype) + watched(shape, dtype, length, SEARCH) + held


def training(shape: Shape, dtype: str, length: int, windows: int) -> int:
    """Return what training a mitigation needs: hidden states, a projection's outputs and gradients.

    Its parameters are two vectors for each projection, six times: values, gradients, both moments, the best.
    """
    states = 6 * 4 * 2 * 7 * max(shape["hidden_size"], shape["intermediate_size"])
    held = hidden(shape, dtype, windows * length) + states
    return weights(shape, dtype) + watched(shape, dtype, length, TRAINING) + held


def sparsegpt(shape: Shape, dtype: str, length: int, windows: int, gpu: bool = False) -> int:
    """Return what SparseGPT needs: hidden states, float32 Hessians of a layer's inputs, its largest weight.

    The widest Hessian is there three times when windows are added, with a layer's work, and four times when
    it is inverted and factorised, with a weight in float32. Pruned weights are the model's own; from a GPU
    they are copied.
    """
    heads = shape.get("num_attention_heads", 1)
    queries = heads * shape.get("head_dim", shape["hidden_size"] // heads)
    widths = (shape["hidden_size"], queries, shape["hidden_size"], shape["intermediate_size"])
    *others, widest = sorted(4 * width**2 for width in widths)
    rows = 4 * length * max(shape["hidden_size"], shape["intermediate_size"])
    gathering = layer_work(shape, dtype, length) + rows + 3 * widest
    copied = gpu * BYTES[dtype] * shape["num_hidden_layers"] * sum(layer_weights(shape).values())
    held = weights(shape, dtype) + hidden(shape, dtype, windows * length) + sum(others) + copied
    return held + max(gathering, 4 * widest + weighing(shape, 10))


def rotations(shape: Shape, dtype: str, length: int, windows: int) -> int:
    """Return what measuring axes needs: hidden states, a layer's moments in float64, all axes.

    A moment is there twice when a window is added, and with its eigenvectors and the solver's work, three
    times, when it is decomposed.
    """
    square = shape["hidden_size"] ** 2
    rows = 8 * length * shape["hidden_size"]
    held = weights(shape, dtype) + hidden(shape, dtype, windows * length) + bases(shape) // 2
    return held + 8 * 2 * square + max(layer_work(shape, dtype, length) + rows + 8 * square, 4 * 8 * square)


def bases(shape: Shape) -> int:
    """Return what the bases of all blocks take, float32, as they were read and as they are used."""
    return 2 * 4 * 2 * shape["num_hidden_layers"] * shape["hidden_size"] ** 2


def weighing(shape: Shape, each: int) -> int:
    """Return `each` byte for every number of the largest weight."""
    return each * max(layer_weights(shape).values())


def logits(shape: Shape, dtype: str, tokens: int, copies: int = 1) -> int:
    """Return the logits of `tokens`, so many times, and the last hidden states."""
    return tokens * BYTES[dtype] * (copies * shape["vocab_size"] + 2 * shape["hidden_size"])


def widths(shape: Shape) -> dict[str, int]:
    """Return how many neurons each projection of a feed-forward network has."""
    inner = shape["intermediate_size"]
    return {"gate_proj": inner, "up_proj": inner, "down_proj": shape["hidden_size"]}


def fitting(
    width: int,
    patterns: int,
    clusters: int,
    *,
    layers: int = 1,
    groups: int = 1,
    algorithm: str = "coverage",
    weighs: bool = False,
    balanced: bool = False,
    unseen: bool = False,
    sequence: int | None = None,
    averages: bool = False,
) -> int:
    """Return what fitting the codebook of a projection of `width` neurons to so many patterns needs.

    It is the mapped part of the store, the blocks that are held, 40 bytes a pattern, all centroids (of
    `layers` codebooks), and the largest of what the steps, weighing a block, and counting its neurons need;
    or measuring it on `unseen` patterns, which is done in the end. Of a codebook's patterns `sequence`
    are of one sequence, all by default; as published, `averages` says whether their outputs are read.
    """
    size, here = -(-width // groups), -(-patterns // layers)
    table, bits = clusters * size, here * size // 8
    mapped = min(SHARD, patterns * width // 8 + patterns * width * weighs)
    kept = bits * (PLANES if weighs else 1)
    rows = min(here, WEIGHED_ROWS)
    held = kept if kept <= CACHE else 2 * (rows * size * PLANES // 8 if weighs else BLOCK)
    block = rows * size // 8 if weighs else min(bits, BLOCK)
    weighed = 15 * rows * width * weighs // 2
    shared_out = 4 * (min(here, 2**14) * (size + 4 * clusters) + table) * balanced
    chunk = here if sequence is None else min(here, sequence)
    steps = _steps(algorithm, here, size, clusters, block, chunk)
    steps += 8 * chunk * width * averages  # a sequence's, twice, in float32
    measured = (min(SHARD, 9 * patterns * width // 8) + 20 * 2**13 * width) * unseen
    results = layers * groups * table // 8
    return mapped + held + 40 * here + results + max(steps, weighed, shared_out, 8 * block, measured)


def _steps(algorithm: str, patterns: int, width: int, clusters: int, block: int, chunk: int) -> int:
    """Return what an algorithm's steps need; packed patterns come `block` bytes, or `chunk`, at a time."""
    table, every = clusters * width, patterns * width
    seeds = int(2.25 * min(4 * table, 2**26))
    if algorithm == "spherical":  # sums, directions in both types, a block of patterns and of products
        return 10 * table + int(2**26 * (1 + min(clusters, width) / max(clusters, width)))
    if algorithm == "as_published":  # a chunk, twice; some patterns in float32; distances; centroids
        return chunk * width // 4 + 5 * min(chunk, 2**13) * width + 8 * 2**8 * chunk + 13 * table
    # A block's neurons and their opposites, as int32.
    if algorithm in ("penalised", "penalised_as_published", "binary_kmeans"):
        return 29 * 8 * block + 9 * table
    if algorithm in ("kmeans", "mini_batch_kmeans", "faiss"):  # all patterns in float32, the library's copies
        return 13 * every + 16 * table
    if algorithm == "mini_batch":  # sums, and those of the centroids that moved
        return max(9 * table, seeds)
    return max(5 * table, seeds)


def centroids(shape: Shape, clusters: int, layers: int = 1) -> int:
    """Return the packed centroids of all projections, of `layers` codebooks each."""
    return layers * clusters * sum(widths(shape).values()) // 8


def routers(
    shape: Shape, dtype: str, length: int, windows: int, clusters: int, groups: int = 1, routed: int = 3
) -> int:
    """Return what training routers for `routed` projections needs.

    Inputs of all layers' networks; of one layer the inputs in float32, three times, and for each projection
    what each centroid covers of each token, twice more of the one that is trained; its map five times; all
    maps.
    """
    tokens, layers = length * windows, shape["num_hidden_layers"]
    inputs = layers * hidden(shape, dtype, tokens) + 12 * tokens * shape["hidden_size"]
    covered = 4 * tokens * groups * clusters * (routed + 3)
    one = 4 * groups * clusters * shape["hidden_size"]
    masks = 5 * clusters * max(widths(shape).values()) // groups
    magnitudes = watched(shape, dtype, min(tokens, 2**12), 4 * routed)
    learned = one * (5 + routed * layers)
    return weights(shape, dtype) + inputs + max(covered, masks + magnitudes) + learned


def evaluation(
    shape: Shape,
    dtype: str,
    tokens: int,
    *,
    copies: int = 1,
    rows: int = 0,
    laid_out: bool = False,
    side: str | None = None,
    methods: tuple[str, ...] = (),
    stored: bool = False,
    made: int = 0,
) -> int:
    """Return what an evaluation needs: weights, and a layer's work under a scheme or the logits.

    `copies` of the logits of `tokens` are made, and `rows` in float32. With weights `laid_out` anew, those of
    all layers are there three times: mapped, laid out, and brought back before the next turn. Pruned weights
    (`side`) are there beside the dense ones, and once more where they were `stored` before; pruned inputs
    wait until the next come. `methods` are the words of what ranks and corrects, `made` other bytes. What is
    made in small blocks is not given back before the logits.
    """
    layers = BYTES[dtype] * shape["num_hidden_layers"] * sum(layer_weights(shape).values())
    held = weights(shape, dtype) + made + 2 * laid_out * layers
    held += weighing(shape, max((WEIGHING.get(word, 0) for word in methods), default=0))
    work, before = layer_work(shape, dtype, tokens), 0
    if side == "weight":
        held, before = held + layers * (1 + stored), weighing(shape, PRUNING_WEIGHT)
    elif side is not None:
        each = 2 * BYTES[dtype] + PRUNING + OTHERWISE * bool(methods)
        work += tokens * max(shape["hidden_size"], shape["intermediate_size"]) * each
    waiting = tokens * 2 * shape["intermediate_size"] * BYTES[dtype] * (side == "input")
    last = waiting + logits(shape, dtype, tokens, copies) + 4 * rows * shape["vocab_size"]
    small = tokens * shape["intermediate_size"] * BYTES[dtype] <= KEPT_BLOCK
    return held + max(before, work + last if small else max(work, last))


def predictions(shape: Shape, dtype: str, length: int, windows: int, rows: int) -> int:
    """Return what a dense pass over a text needs that keeps KEPT tokens of each prediction.

    `rows` of logits are there in float32; what is kept, twice when it is written.
    """
    kept = min(KEPT, shape["vocab_size"])
    each = kept * (2 if shape["vocab_size"] <= 2**16 else 4) + 2 * (kept + 1) + 2
    return evaluation(shape, dtype, length, rows=rows) + 2 * each * length * windows


def codebook(shape: Shape, tokens: int, clusters: int, layers: int, router: bool, groups: int = 1) -> int:
    """Return what assigning `tokens` to centroids needs: these, routers, and activations in several forms."""
    maps = router * 3 * shape["num_hidden_layers"] * 4 * groups * clusters * shape["hidden_size"]
    values = tokens * max(widths(shape).values()) * CODEBOOKS
    return 2 * centroids(shape, clusters, layers) + maps + values


def centroid_matrix(width: int, clusters: int) -> int:
    """Return what reading or writing the published layout needs: float32 (K, D) and what it is made of."""
    return 7 * clusters * width


def dequantised(shape: Shape) -> int:
    """Return what making float32 weights of a quantised file needs: these, and as many beside them."""
    return 2 * weights(shape, "float32")

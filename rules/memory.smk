# How much memory jobs ask for, from the sizes of their models.


def memory_of(terms):
    """What a job asks for with each attempt once more, in MB: libraries, and `terms(shape, dtype, wildcards)`.

    The terms are bytes, functions of the sizes of the job's model (see `actsparse/study/memory.py`).
    """

    def mb(wildcards, attempt):
        shape, dtype = shape_of(wildcards.model), CONFIG["models"][wildcards.model]["dtype"]
        if shape is None:
            return attempt * memory.UNKNOWN_MB
        return attempt * memory.asked_mb(memory.libraries(ON_GPU), terms(shape, dtype, wildcards))

    return mb


@cache
def shape_of(model):
    """The sizes of a model; None where they are not all known."""
    shape = model_shape(model, CONFIG["models"][model], Path())
    return shape if shape and "vocab_size" in shape else None


def patterns_stored(shape, text):
    """How many patterns of a projection are stored of the text of a use, over all layers."""
    most, taken = CONFIG["codebooks"]["patterns"], CONFIG[text]
    if taken["sequences"] is None:
        return most
    return min(most, taken["sequences"] * taken["sequence_length"] * shape["num_hidden_layers"])


def fetching_memory(wildcards):
    """MB that fetching a model needs: a quantised file becomes float32; others are copied as they are."""
    shape, source = shape_of(wildcards.model), parse_source(CONFIG["models"][wildcards.model]["source"])
    if shape is None or not isinstance(source, Packaged):
        return memory.UNKNOWN_MB
    return max(memory.UNKNOWN_MB, memory.asked_mb(memory.libraries(), memory.dequantised(shape)))


def pattern_memory(shape, dtype, wildcards):
    """What a pass needs that stores patterns of a text, with what codebooks weigh or average."""
    w, text = wildcards, PATTERN_TEXTS[wildcards.text]
    stored = patterns_stored(shape, text)
    magnitudes = stored_magnitudes(w.sparsity + w.of + w.importance + w.text)
    length, windows = CONFIG[text]["sequence_length"], CONFIG[text]["sequences"] or 256
    values = stores_values(w.sparsity + w.of + w.importance + w.text)
    return memory.patterns(shape, dtype, length, windows, stored, magnitudes, values)


def fitting_memory(shape, dtype, wildcards):
    """What the widest projection's codebook needs; where processes share a fit, each has its own sums."""
    codebook = CODEBOOKS[wildcards.codebook]
    fit, options = codebook["fit"], codebook["fit"]["options"]
    text = PATTERN_TEXTS["-published" if codebook["patterns"].endswith("-published") else ""]
    given = given_store(CONFIG, wildcards.model, codebook["patterns"], Path())
    stored = given["tokens"] * given["layers"] if given else patterns_stored(shape, text)
    pooled = 1 if fit["scope"] == "per_layer" else shape["num_hidden_layers"]
    each = memory.fitting(
        max(memory.widths(shape).values()),
        stored,
        fit["clusters"],
        layers=shape["num_hidden_layers"] if fit["scope"] == "per_layer" else 1,
        groups=fit["groups"],
        algorithm=fit["algorithm"],
        weighs=codebook["weighs"],
        balanced=options.get("balanced", False),
        unseen=bool(held_out_patterns(wildcards)),
        sequence=pooled * CONFIG[text]["sequence_length"],
        averages=options.get("rows", "binary") != "binary",
    )
    more = max(1, GPUS) - 1
    return each + more * (each + memory.libraries(ON_GPU))


def routers_memory(shape, dtype, wildcards):
    """What the routers of one layer need, and what they learn from."""
    router = ROUTERS[wildcards.router]
    fit = CODEBOOKS[router["centroids"]]
    clusters = fit["clusters"] if "given" in fit else fit["fit"]["clusters"]
    groups = 1 if "given" in fit else fit["fit"]["groups"]
    routed = len(router["training"]["projections"])
    return memory.routers(shape, dtype, LENGTH, WINDOWS, clusters, groups, routed)


def matrix_memory(shape, dtype, wildcards):
    """What the published layout of the widest projection's centroids needs."""
    spec = CODEBOOKS[wildcards.codebook]
    clusters = (spec if "given" in spec else spec["fit"])["clusters"]
    return memory.centroid_matrix(max(memory.widths(shape).values()), clusters)


def predictions_memory(shape, dtype, wildcards):
    """What a dense pass over a text needs, and what is kept of all of it."""
    benchmark, text = STUDY.benchmarks[wildcards.use], CONFIG[wildcards.use]
    length, windows = text["sequence_length"], text["sequences"] or 256
    return memory.predictions(shape, dtype, length, windows, benchmark.logit_rows)


def answers_memory(shape, dtype, wildcards):
    """What a dense evaluation of items needs."""
    benchmark = STUDY.benchmarks[wildcards.use]
    made = memory.libraries(others_mb=benchmark.libraries_mb) - memory.libraries()
    tokens = benchmark.tokens_at_once(CONFIG)
    return memory.evaluation(shape, dtype, tokens, copies=benchmark.logit_copies, made=made)


def evaluation_memory(shape, dtype, wildcards):
    """What the benchmark's own libraries need, a pass of its tokens, and the experiment's scheme."""
    benchmark, kind = STUDY.benchmarks[wildcards.benchmark], STUDY.experiments[wildcards.experiment].kind
    tokens, params, needs = benchmark.tokens_at_once(CONFIG), kind.params, kind.needs(wildcards.experiment)
    made = memory.libraries(others_mb=benchmark.libraries_mb) - memory.libraries()
    if "clusters" in params:
        layers = shape["num_hidden_layers"] if params["scope"] == "per_layer" else 1
        routed = "routers" in needs
        made += memory.codebook(shape, tokens, params["clusters"], layers, routed, params["groups"])
    if "rotation" in params:
        made += memory.bases(shape)
    words = (kind.scorer.word, kind.mitigation.word, params.get("rotation", "none"))
    return memory.evaluation(
        shape,
        dtype,
        tokens,
        copies=benchmark.logit_copies,
        rows=benchmark.logit_rows,
        laid_out=benchmark.lays_out,
        side=kind.side,
        methods=tuple(word for word in words if word not in ("magnitude", "none")),
        stored=kind.side == "weight" and "parameters" in needs,
        made=made,
    )

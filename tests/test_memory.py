"""Memory that jobs ask for: sums written out, and never less than what jobs of the tiny study took."""

import csv
from ast import literal_eval

from actsparse.study import memory

LLAMA_2_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
LAYER = 4 * 4096 * 4096 + 3 * 4096 * 11008
EMBEDDINGS = 2 * 32000 * 4096
WEIGHTS = 2 * (EMBEDDINGS + 32 * LAYER)  # in two bytes each
WINDOW = 2048
# Hidden states twice, and the network's neurons three times; or twice where a stage looks on.
WORK = WINDOW * 2 * (2 * 4096 + 3 * 11008)
HELD = WINDOW * 2 * (2 * 4096 + 2 * 11008)


def test_weights_are_those_of_the_checkpoint():
    """Of the 6,738,415,616 numbers of Llama-2-7B, 266,240 are norms."""
    assert memory.weights(LLAMA_2_7B, "bfloat16") == WEIGHTS == 2 * (6_738_415_616 - 65 * 4096)
    assert memory.weights(LLAMA_2_7B, "float32") == 2 * WEIGHTS


def test_keys_and_values_may_be_fewer_and_heads_of_their_own_size():
    shape = LLAMA_2_7B | {"num_key_value_heads": 8, "head_dim": 64}
    attention = 4096 * 64 * (32 + 8 + 8 + 32)
    assert sum(memory.layer_weights(shape).values()) == attention + 3 * 4096 * 11008


def test_libraries_and_margin():
    cpu, gpu = memory.libraries(), memory.libraries(gpu=True)
    assert (cpu, gpu - cpu) == (570 * 2**20, 1500 * 2**20)
    assert memory.libraries(others_mb=7) == 577 * 2**20
    assert memory.asked_mb(100 * 2**20, 2**20) == 107  # 106.05
    assert memory.asked_mb(20 * 2**20) == 21


def test_stages_of_one_pass():
    sites = 32 * 7
    histograms = WEIGHTS + HELD + WINDOW * 11008 * 8 + 2 * sites * 45058 * 8
    assert memory.histograms(LLAMA_2_7B, "bfloat16", WINDOW) == histograms
    statistics = WEIGHTS + HELD + WINDOW * 11008 * 16 + 3 * 8 * sites * 11008
    assert memory.statistics(LLAMA_2_7B, "bfloat16", WINDOW) == statistics
    states = 6 * 4096 * WINDOW * 2
    search = WEIGHTS + HELD + WINDOW * 11008 * 6 + 2 * states
    assert memory.search(LLAMA_2_7B, "bfloat16", WINDOW, 6) == search


def test_patterns_wait_for_their_shard():
    neurons = 2 * 11008 + 4096
    counts = 8 * 32 * neurons
    plain = WEIGHTS + HELD + WINDOW * 11008 * 8 + 5 * (1024 * neurons // 8) // 2 + counts
    assert memory.patterns(LLAMA_2_7B, "bfloat16", WINDOW, 32, 1024, None) == plain
    weighted = WEIGHTS + HELD + WINDOW * 11008 * 16 + 5 * (1024 * neurons * 9 // 8) // 2 + 2 * counts
    assert memory.patterns(LLAMA_2_7B, "bfloat16", WINDOW, 32, 1024, "uint8") == weighted
    many = WEIGHTS + HELD + WINDOW * 11008 * 8 + 5 * (2**28 + 2**16 * neurons // 8) // 2 + counts
    assert memory.patterns(LLAMA_2_7B, "bfloat16", WINDOW, 32, 2**21, None) == many


def test_training_holds_the_hidden_states_of_all_windows():
    states = 272 * WINDOW * 4096 * 2
    parameters = 6 * 4 * 2 * 7 * 11008
    expected = WEIGHTS + HELD + WINDOW * 11008 * 20 + states + parameters
    assert memory.training(LLAMA_2_7B, "bfloat16", WINDOW, 272) == expected


def test_sparsegpt_holds_hidden_states_and_hessians_in_float32():
    states = 128 * WINDOW * 4096 * 2
    hessians = 4 * (3 * 4096**2 + 4 * 11008**2)
    expected = WEIGHTS + states + hessians + 10 * 4096 * 11008
    assert memory.sparsegpt(LLAMA_2_7B, "bfloat16", WINDOW, 128) == expected
    longer = memory.sparsegpt(LLAMA_2_7B, "bfloat16", 4 * WINDOW, 32)
    gathering = 4 * WORK + 4 * WINDOW * 11008 * 4 - 4 * 11008**2 - 10 * 4096 * 11008
    assert longer - expected == gathering
    from_gpu = memory.sparsegpt(LLAMA_2_7B, "bfloat16", WINDOW, 128, gpu=True)
    assert from_gpu - expected == 2 * 32 * LAYER


def test_evaluation_is_a_layers_work_or_the_logits():
    def asked(tokens=WINDOW, **about):
        return memory.evaluation(LLAMA_2_7B, "bfloat16", tokens, **about)

    assert asked() == WEIGHTS + WORK
    # Of 1,024 tokens, no block is above 32 MiB, and what a layer made stays.
    small = 1024 * 2 * (32000 + 2 * 4096)
    assert asked(1024) == WEIGHTS + WORK // 2 + small
    assert asked(1024, rows=512) == WEIGHTS + WORK // 2 + small + 4 * 512 * 32000
    large = LLAMA_2_7B | {"vocab_size": 256_000}
    logits = WINDOW * 2 * (3 * 256_000 + 2 * 4096)
    assert (
        memory.evaluation(large, "bfloat16", WINDOW, copies=3) == memory.weights(large, "bfloat16") + logits
    )
    pruned = WEIGHTS + WORK + WINDOW * 11008 * (2 * 2 + 1)
    assert asked(side="input") == asked(side="output") == pruned
    ranked = pruned + WINDOW * 11008 * 10
    assert asked(side="input", methods=("clact",)) == ranked
    assert asked(side="input", methods=("amber",)) == ranked + 20 * 4096 * 11008
    layers = 2 * 32 * LAYER
    assert asked(laid_out=True) == WEIGHTS + WORK + 2 * layers
    weighed = WEIGHTS + layers + 16 * 4096 * 11008
    assert asked(side="weight") == weighed
    assert asked(side="weight", stored=True) == weighed + layers
    assert asked(made=5) == WEIGHTS + WORK + 5


def test_coverage_and_spherical_hold_centroids_times_neurons():
    """2.1 million patterns at K = 16,384: blocks are streamed, a shard is mapped, sums count most."""
    patterns, table = 2**21, 16384 * 14336
    held = 2**28 + 2 * 2**26 + 40 * patterns + table // 8
    assert memory.fitting(14336, patterns, 16384) == held + 5 * table
    products = 2**26 * (1 + 14336 / 16384)
    assert memory.fitting(14336, patterns, 16384, algorithm="spherical") == held + 10 * table + int(products)


def test_few_patterns_are_kept():
    patterns, table, packed = 8192, 1024 * 4096, 8192 * 4096 // 8
    held = packed + packed + 40 * patterns + table // 8
    assert memory.fitting(4096, patterns, 1024) == held + 9 * table
    published = packed * 2 + 5 * 8192 * 4096 + 8 * 256 * 8192 + 13 * table
    assert memory.fitting(4096, patterns, 1024, algorithm="as_published") == held + published
    published += 8 * 8192 * 4096
    raw = memory.fitting(4096, patterns, 1024, algorithm="as_published", averages=True)
    assert raw == held + published
    neurons = 29 * 8192 * 4096 + 9 * table
    assert memory.fitting(4096, patterns, 1024, algorithm="penalised") == held + neurons
    library = 13 * 8192 * 4096 + 16 * table
    assert memory.fitting(4096, patterns, 1024, algorithm="kmeans") == held + library


def test_weighted_patterns_are_bit_planes_and_come_in_float32():
    patterns, table = 8192, 1024 * 4096
    mapped = patterns * 4096 // 8 + patterns * 4096
    planes = 15 * (4096 * 4096 // 8)  # of one of two layers
    held = mapped + planes + 40 * 4096 + 2 * table // 8
    found = memory.fitting(4096, patterns, 1024, layers=2, algorithm="activation_aware", weighs=True)
    assert found == held + 15 * 4096 * 4096 // 2
    unseen = memory.fitting(
        4096, patterns, 1024, layers=2, algorithm="activation_aware", weighs=True, unseen=True
    )
    assert unseen == held + 9 * patterns * 4096 // 8 + 20 * 8192 * 4096


def test_routers_hold_what_all_layers_get():
    tokens, clusters = 32 * WINDOW, 256
    inputs = 32 * tokens * 4096 * 2 + 12 * tokens * 4096
    covered = 4 * tokens * clusters * (2 + 3)
    learned = 4 * clusters * 4096 * (5 + 2 * 32)
    found = memory.routers(LLAMA_2_7B, "bfloat16", WINDOW, 32, clusters, routed=2)
    small = 2**12 * 2 * (2 * 4096 + 2 * 11008) + 2**12 * 11008 * 8 + 5 * clusters * 11008
    assert found == WEIGHTS + inputs + max(covered, small) + learned


def test_codebooks_at_evaluation():
    packed = 512 * (2 * 11008 + 4096) // 8
    values = WINDOW * 11008 * 4
    assert memory.codebook(LLAMA_2_7B, WINDOW, 512, 1, router=False) == 2 * packed + values
    maps = 3 * 32 * 4 * 512 * 4096
    assert memory.codebook(LLAMA_2_7B, WINDOW, 512, 32, router=True) == 2 * 32 * packed + maps + values


def test_files_of_centroids_and_quantised_models():
    assert memory.centroid_matrix(11008, 512) == 7 * 512 * 11008
    assert memory.dequantised(LLAMA_2_7B) == 2 * 2 * WEIGHTS


def test_no_job_of_a_study_takes_more_than_it_asked_for(finished_study):
    """Peaks as Snakemake saw them; a job that ended before it looked has none."""
    study, _ = finished_study
    found = {}
    for path in [
        *study.glob("results/tiny/benchmarks/**/*.tsv"),
        *study.glob("resources/benchmarks/**/*.tsv"),
    ]:
        with path.open() as lines:
            (job,) = csv.DictReader(lines, delimiter="\t")
        # What another test has made again since, without --benchmark-extended, does not tell what was asked.
        if "resources" in job and job["max_rss"] != "NA":
            asked = literal_eval(job["resources"])["mem_mb"]
            found.setdefault(job["rule_name"], []).append((float(job["max_rss"]), asked))
    assert {"measure_histograms", "extract_patterns", "fit_codebook", "evaluate"} <= found.keys()
    for rule, jobs in found.items():
        assert all(peak <= asked for peak, asked in jobs), (rule, jobs)

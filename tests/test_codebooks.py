"""Codebooks: exact, never worse from step to step, the same for any blocks and threads."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from actsparse.codebooks import ALGORITHMS, NEED_MAGNITUDES, algorithm_named
from actsparse.codebooks.alternation import Stream
from actsparse.codebooks.artifact import file_name, read_centroids, write_centroids
from actsparse.codebooks.as_published import AsPublished
from actsparse.codebooks.assign import assign, assign_plain, centroid_masks
from actsparse.codebooks.balance import assign_balanced
from actsparse.codebooks.codebook import load_codebooks, ones_in_centroid, save_codebooks
from actsparse.codebooks.coverage import Coverage
from actsparse.codebooks.fit import PatternStream, fit_codebook, single_centroids
from actsparse.codebooks.quality import measure
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.update import add_to_sums, add_to_sums_plain, top_entries, top_entries_plain
from actsparse.codebooks.weights import assign_weights
from actsparse.packing import count_active, pack, pack_planes, unpack, unpack_planes
from actsparse.pattern_store import PatternStore, PatternWriter
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("codebooks", deadline=None, max_examples=40)
settings.load_profile("codebooks")


def random_masks(rows, width, seed, density=0.5):
    return torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)) < density


def structured_masks(rows, width, seed, kinds=7, noise=0.1):
    """Return noisy copies of a few prototypes, as patterns that do fall in clusters."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = random_masks(kinds, width, seed)
    kind = torch.randint(kinds, (rows,), generator=generator)
    return prototypes[kind] ^ (torch.rand(rows, width, generator=generator) < noise)


problems = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 90),
        "width": st.sampled_from([1, 7, 8, 63, 64, 65, 130, 200]),
        "clusters": st.sampled_from([1, 2, 3, 15, 16, 17, 40]),
        "seed": st.integers(0, 99),
        "density": st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    }
)


@given(problems)
def test_fast_paths_equal_plain_paths(problem):
    width, clusters = problem["width"], problem["clusters"]
    patterns = pack(random_masks(problem["rows"], width, problem["seed"], problem["density"]))
    centroids = pack(random_masks(clusters, width, problem["seed"] + 1))
    index, overlap = assign(patterns, centroids, width)
    plain_index, plain_overlap = assign_plain(patterns, centroids, width)
    assert torch.equal(index, plain_index)
    assert torch.equal(overlap, plain_overlap)
    sums = torch.full((clusters, width), 3, dtype=torch.int32)
    plain_sums = sums.clone()
    add_to_sums(sums, patterns, index)
    add_to_sums_plain(plain_sums, patterns, index)
    assert torch.equal(sums, plain_sums)
    for ones in {0, 1, width // 2, width}:
        assert torch.equal(top_entries(sums, ones), top_entries_plain(sums, ones))


@given(problems, st.integers(1, 9))
def test_bit_planes_are_integer_weights(problem, bits):
    width, rows, clusters = problem["width"], problem["rows"], problem["clusters"]
    weights = torch.randint(
        2**bits, (rows, width), generator=torch.Generator().manual_seed(problem["seed"]), dtype=torch.int64
    )
    planes = pack_planes(weights, bits)
    assert planes.shape == (rows, bits, (width + 7) // 8)
    assert torch.equal(unpack_planes(planes, width, torch.int64), weights)
    masks = random_masks(clusters, width, problem["seed"] + 1)
    best = (weights @ masks.long().T).max(1).values
    for method in (assign, assign_plain):
        index, overlap = method(planes, pack(masks), width)
        assert torch.equal(overlap, best)
        assert torch.equal(index, assign_plain(planes, pack(masks), width)[0])
    expected = torch.zeros(clusters, width, dtype=torch.int64).index_add_(0, index, weights)
    for method in (add_to_sums, add_to_sums_plain):
        sums = torch.zeros(clusters, width, dtype=torch.int32)
        method(sums, planes, index)
        assert torch.equal(sums.long(), expected)


@given(st.integers(1, 70), st.integers(0, 99), st.sampled_from([3, 1000, 2**31 - 1]))
def test_top_entries_of_any_numbers(width, seed, largest):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-largest - 1, largest, (3, width), generator=generator).to(torch.int32)
    order = np.argsort(-scores.numpy().astype(np.int64), axis=1, kind="stable")
    for ones in {0, 1, width // 3, width}:
        expected = np.zeros((3, width), bool)
        np.put_along_axis(expected, order[:, :ones], True, axis=1)
        assert np.array_equal(unpack(top_entries(scores, ones), width).numpy(), expected)
        assert torch.equal(top_entries(scores.double(), ones), top_entries(scores, ones))


@pytest.mark.parametrize(("rows", "width", "clusters"), [(3000, 1536, 100), (700, 5000, 33), (5, 20000, 3)])
def test_fast_assignment_over_several_cache_blocks(rows, width, clusters):
    patterns, centroids = pack(random_masks(rows, width, 0)), pack(random_masks(clusters, width, 1, 0.7))
    for fast, plain in zip(
        assign(patterns, centroids, width), assign_plain(patterns, centroids, width), strict=True
    ):
        assert torch.equal(fast, plain)


def test_assignment_edges():
    pattern = pack(torch.tensor([[True, False, True]]))
    ties = pack(torch.tensor([[False, False, True], [True, True, False], [False, True, True]]))
    assert [x.tolist() for x in assign(pattern, ties, 3)] == [[0], [1]]
    assert [x.tolist() for x in assign(pattern[:0], ties, 3)] == [[], []]
    with pytest.raises(ValueError, match="no centroids"):
        assign(pattern, ties[:0], 3)
    with pytest.raises(ValueError, match="1 and 1 bytes a row do not fit 9 neurons"):
        assign(pattern, ties, 9)
    masks = centroid_masks(torch.tensor([2, 0]), ties, 3)
    assert masks.tolist() == [[False, True, True], [False, False, True]]


def test_sums_of_large_clusters():
    patterns = pack(torch.ones(1000, 70, dtype=torch.bool))
    sums = torch.zeros(2, 70, dtype=torch.int32)
    add_to_sums(sums, patterns, torch.tensor([1] * 1000))
    assert sums[0].eq(0).all() and sums[1].eq(1000).all()


def naive_step(masks, centroids, ones):
    """Return the objective and the next centroids of non-empty clusters, by the definition."""
    best = [max(range(len(centroids)), key=lambda k: (int((m & centroids[k]).sum()), -k)) for m in masks]
    objective = sum(int((m & centroids[k]).sum()) for m, k in zip(masks, best, strict=True))
    following = {}
    for k in set(best):
        sums = sum(m.astype(int) for m, a in zip(masks, best, strict=True) if a == k)
        top = sorted(range(masks.shape[1]), key=lambda i: (-sums[i], i))[:ones]
        following[k] = np.isin(np.arange(masks.shape[1]), top)
    return objective, following


@given(st.integers(0, 99), st.integers(1, 12), st.sampled_from([random_masks, structured_masks]))
def test_one_step_is_the_formula(seed, clusters, make):
    masks = make(40, 35, seed)
    patterns = [pack(masks)]
    seeded, _ = Coverage(steps=0, seed=seed).fit(patterns, 35, clusters, 22)
    stepped, objective = Coverage(steps=1, seed=seed).fit(patterns, 35, clusters, 22)
    expected, following = naive_step(masks.numpy(), unpack(seeded, 35).numpy(), 22)
    assert objective[0] == expected
    for k, centroid in following.items():
        assert np.array_equal(unpack(stepped[k], 35).numpy(), centroid)


@given(problems, st.sampled_from([random_masks, structured_masks]), st.sampled_from([0.2, 0.5, 0.8]))
def test_objective_never_falls_and_cardinality_is_exact(problem, make, sparsity):
    width, rows = problem["width"], problem["rows"]
    clusters = min(problem["clusters"], rows)
    masks = make(rows, width, problem["seed"])
    ones = max(1, round((1 - sparsity) * width))
    centroids, objective = Coverage(steps=8, seed=problem["seed"]).fit([pack(masks)], width, clusters, ones)
    assert centroids.shape == (clusters, (width + 7) // 8)
    assert count_active(centroids).eq(ones).all()
    assert objective == sorted(objective)
    assert len(objective) <= 9
    covered = (masks.int() @ unpack(centroids, width, torch.int32).T).amax(1).sum()
    assert objective[-1] == covered


def test_empty_clusters_are_reseeded_from_the_worst_covered():
    masks = torch.zeros(40, 64, dtype=torch.bool)
    masks[:38, :8] = True
    masks[38, 20:30] = True
    masks[39, 40:60] = True
    centroids, objective = Coverage(steps=5, seed=0).fit([pack(masks)], 64, 3, 20)
    assert objective[-1] == masks.sum()
    assert len({bytes(row.numpy()) for row in centroids}) == 3


def test_seeds_are_patterns_completed_with_frequent_neurons():
    masks = torch.zeros(4, 10, dtype=torch.bool)
    masks[:, 0] = masks[:3, 7] = masks[:2, 3] = True
    masks[3, 1:10] = True
    centroids, _ = Coverage(steps=0, seed=0).fit([pack(masks)], 10, 4, 4)
    expected = {(0, 1, 3, 7), (0, 3, 7, 1)}
    found = {tuple(row.nonzero().flatten().tolist()) for row in unpack(centroids, 10)}
    assert found == {tuple(sorted(x)) for x in expected}


def test_more_clusters_than_patterns_is_one_line():
    with pytest.raises(ValueError, match=r"^clusters: 5 is more than the 4 patterns to fit$"):
        Coverage(steps=1, seed=0).fit([pack(random_masks(4, 9, 0))], 9, 5, 3)


def test_threads_and_blocks_do_not_matter():
    patterns = pack(structured_masks(1000, 200, 1, kinds=30))
    results = []
    for threads, blocks in [
        (1, [patterns]),
        (2, [patterns]),
        (2, patterns.split(77)),
        (1, patterns.split(1)),
    ]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            results.append(Coverage(steps=6, seed=3).fit(list(blocks), 200, 20, 90))
        finally:
            torch.set_num_threads(before)
    for centroids, objective in results[1:]:
        assert torch.equal(centroids, results[0][0])
        assert objective == results[0][1]


def test_without_numba_the_codebook_is_the_same(monkeypatch):
    patterns = [pack(structured_masks(300, 100, 2))]
    compiled = Coverage(steps=4, seed=0).fit(patterns, 100, 9, 60)
    for module in ("assign", "update"):
        monkeypatch.setattr(f"actsparse.codebooks.{module}.kernels", lambda: None)
    plain = Coverage(steps=4, seed=0).fit(patterns, 100, 9, 60)
    assert torch.equal(plain[0], compiled[0])
    assert plain[1] == compiled[1]


LAYERS, TOKENS, WIDTHS = 3, 60, {"gate_proj": 70, "down_proj": 24}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patterns")
    with PatternWriter(folder, {"model": "tiny"}, LAYERS, WIDTHS, shard_bytes=700) as writer:
        for window in range(4):
            for name, width in WIDTHS.items():
                for layer in range(LAYERS):
                    masks = structured_masks(TOKENS // 4, width, seed=layer)
                    writer.add(name, layer, masks.roll(window, 0))
    return PatternStore(folder)


FIT = {"clusters": 6, "centroid_sparsity": 0.4, "algorithm": "coverage", "steps": 5, "seed": 1}


def all_patterns(store, name, layer=None):
    return torch.cat([block for block, at in store.blocks(name) if layer in (None, at)])


def test_streaming_equals_in_memory(store):
    for name, width in WIDTHS.items():
        stream = PatternStream(store, name, [0, 1, 2], TOKENS, block_bytes=100)
        assert len(list(stream)) > 2
        codebook = fit_codebook(store, name, **FIT, scope="pooled", patterns=10**6)
        for patterns in (stream, list(stream), [torch.cat(list(stream))]):
            centroids, objective = Coverage(steps=5, seed=1).fit(patterns, width, 6, round(0.6 * width))
            assert torch.equal(centroids, codebook.centroids[0, 0])
            assert objective == codebook.objective[0][0]


def test_per_layer_is_each_layer_alone(store):
    codebook = fit_codebook(store, "gate_proj", **FIT, scope="per_layer", patterns=LAYERS * 20)
    assert codebook.centroids.shape == (LAYERS, 1, 6, 9)
    for layer in range(LAYERS):
        alone = all_patterns(store, "gate_proj", layer)[store.token_positions(20)]
        centroids, objective = Coverage(steps=5, seed=1).fit([alone], 70, 6, 42)
        assert torch.equal(codebook.of_layer(layer)[0], centroids)
        assert codebook.objective[layer][0] == objective


def test_one_cluster_per_layer_is_the_baseline(store):
    one = fit_codebook(store, "gate_proj", **(FIT | {"clusters": 1}), scope="per_layer", patterns=10**6)
    assert torch.equal(one.centroids[:, 0, 0], one.baseline)
    assert torch.equal(one.baseline, top_entries(store.active_counts()["gate_proj"].int(), 42))
    assert torch.equal(one.baseline, single_centroids(store, "gate_proj", 42))
    quality = measure(store, "gate_proj", one)
    assert quality.recall == quality.baseline_recall
    assert quality.precision == quality.baseline_precision


@pytest.mark.parametrize("scope", ["pooled", "per_layer"])
def test_quality_is_the_formula(store, scope):
    codebook = fit_codebook(store, "gate_proj", **FIT, scope=scope, patterns=90)
    overlap = active = single = 0
    for layer in range(LAYERS):
        masks = unpack(all_patterns(store, "gate_proj", layer), 70, torch.int64)
        overlap += (masks @ unpack(codebook.of_layer(layer)[0], 70, torch.int64).T).amax(1).sum().item()
        single += (masks & unpack(codebook.baseline[layer], 70, torch.int64)).sum().item()
        active += masks.sum().item()
    quality = measure(store, "gate_proj", codebook)
    assert quality.recall == overlap / active
    assert quality.precision == overlap / (LAYERS * TOKENS * 42)
    assert quality.baseline_recall == single / active
    assert quality.recall >= quality.baseline_recall
    with pytest.raises(ValueError, match="not those of the codebook"):
        measure(store, "down_proj", codebook)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "magic"}, r"algorithm: 'magic' is unknown \(allowed: coverage"),
        ({"scope": "global"}, r"scope: 'global' is unknown \(allowed: pooled, per_layer\)"),
        ({"projection": "q_proj"}, r"projection: 'q_proj' has no patterns \(known: gate_proj, down_proj\)"),
        ({"clusters": 10**6}, "clusters: 1000000 is more than the 180 patterns to fit"),
        ({"centroid_sparsity": 1.0}, r"centroid_sparsity: 1.0 leaves 0 of 70 neurons active"),
        ({"centroid_sparsity": -0.1}, r"centroid_sparsity: -0.1 leaves 77 of 70 neurons active"),
    ],
)
def test_bad_arguments_are_one_line(store, change, message):
    arguments = {"projection": "gate_proj", "scope": "pooled", "patterns": 10**6, **FIT} | change
    with pytest.raises(ValueError, match=message) as error:
        fit_codebook(store, **arguments)
    assert "\n" not in str(error.value)


def test_cardinality_rounds():
    assert ones_in_centroid(1536, 0.3) == 1075
    assert ones_in_centroid(1536, 0.2) == 1229
    assert ones_in_centroid(5, 0) == 5


def test_files_round_trip_and_broken_ones_are_refused(tmp_path, store):
    codebooks = {name: fit_codebook(store, name, **FIT, scope="per_layer", patterns=90) for name in WIDTHS}
    path = tmp_path / "codebook.safetensors"
    save_codebooks(path, codebooks, FIT)
    loaded, spec = load_codebooks(path)
    assert spec == FIT
    for name, codebook in codebooks.items():
        assert torch.equal(loaded[name].centroids, codebook.centroids)
        assert torch.equal(loaded[name].baseline, codebook.baseline)
        assert (loaded[name].width, loaded[name].objective) == (codebook.width, codebook.objective)
    first = path.read_bytes()
    save_codebooks(path, codebooks, FIT)
    assert path.read_bytes() == first
    for broken in (first[:-5], first[:50], b"", b"not a codebook, but long enough to look like one"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"^{path}: not a whole codebook file"):
            load_codebooks(path)


def test_the_script_fits_every_projection(tmp_path, store):
    fit = __import__("fit_codebook").fit
    for name in ("one", "two"):
        fit(store.folder, scope="pooled", patterns=90, output=tmp_path / name, threads=1, **FIT)
    codebooks, spec = load_codebooks(tmp_path / "one")
    assert set(codebooks) == set(WIDTHS)
    assert spec["fitted_patterns"] == 90 and spec["scope"] == "pooled"
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_registry_resolves_without_torch():
    code = "import sys, actsparse.codebooks as c; assert 'torch' not in sys.modules; print(*c.ALGORITHMS)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert printed.split() == list(ALGORITHMS)
    assert algorithm_named("coverage") is Coverage


SIMPLE = [name for name in ALGORITHMS if name not in NEED_MAGNITUDES]


@pytest.mark.parametrize("name", SIMPLE)
def test_every_algorithm_finds_separate_clusters(name):
    if name == "faiss":
        pytest.importorskip("faiss")
    prototypes = torch.zeros(4, 80, dtype=torch.bool)
    for k in range(4):
        prototypes[k, 20 * k : 20 * k + 20] = True
    masks = prototypes[torch.arange(400) % 4]
    fitted = [algorithm_named(name)(steps=5, seed=seed).fit([pack(masks)], 80, 4, 20) for seed in range(6)]
    best, objective = max(fitted, key=lambda found: found[1][-1])
    assert best.shape == (4, 10) and count_active(best).le(20).all()
    if name not in ("coverage", "mini_batch"):  # random seeds may fall together
        return
    assert objective[-1] >= masks.sum() * 3 / 4


@pytest.mark.parametrize("name", SIMPLE)
def test_every_algorithm_streams_and_repeats(name):
    if name == "faiss":
        pytest.importorskip("faiss")
    patterns = pack(structured_masks(500, 90, 5))
    method = algorithm_named(name)(steps=3, seed=7)
    ones = 60
    first, objective = method.fit([patterns], 90, 8, ones)
    again, _ = method.fit([patterns], 90, 8, ones)
    assert torch.equal(first, again) and objective
    if name not in ("as_published", "mini_batch"):  # these depend on what comes together
        assert torch.equal(method.fit(list(patterns.split(123)), 90, 8, ones)[0], first)
    if name != "as_published":
        assert count_active(first).eq(ones).all()
    with pytest.raises(ValueError, match="clusters: 501 is more than the 500 patterns"):
        method.fit([patterns], 90, 501, ones)


def test_coverage_beats_the_baselines_in_what_it_maximises():
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(2000, 8, generator=generator), torch.randn(8, 120, generator=generator)
    patterns = pack((hidden @ weight).abs() > 1.5)  # as activations are: correlated, but not in clumps

    def covered(name, **options):
        method = algorithm_named(name)(steps=20, seed=1, **options)
        return int(assign(patterns, method.fit([patterns], 120, 32, 84)[0], 120)[1].sum())

    baselines = ("as_published", "binary_kmeans", "kmeans", "mini_batch_kmeans")
    assert covered("coverage") > max(map(covered, baselines))


def naive_published_step(chunk, centroids, iteration, sparsity):
    """The artifact's loop as it is written: one centroid after the other."""
    capacity = len(chunk) // len(centroids)
    taken, updated = torch.zeros(len(chunk), dtype=torch.bool), []
    for centroid in centroids:
        overlaps = (chunk @ centroid).masked_fill_(taken, -torch.inf)
        members = overlaps.topk(capacity).indices
        taken[members] = True
        blend = centroid * (iteration * capacity) + chunk[members].sum(0)
        updated.append((blend > blend.quantile(sparsity)).float())
    return torch.stack(updated)


def test_as_published_is_the_loop_and_freezes():
    masks = structured_masks(400, 64, 2)
    chunk, ones = masks.float(), 45
    seeds = AsPublished(steps=0, seed=3).fit([pack(masks)], 64, 10, ones)[0]
    expected = unpack(seeds, 64, torch.float32)
    for iteration in (1, 2):
        expected = naive_published_step(chunk, expected, iteration, 1 - ones / 64)
    found, _ = AsPublished(steps=2, seed=3).fit([pack(masks)], 64, 10, ones)
    assert torch.equal(unpack(found, 64, torch.float32), expected)
    late = [AsPublished(steps=n, seed=3).fit([pack(masks)], 64, 10, ones)[0] for n in (8, 20)]
    assert torch.equal(*late)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 99))
def test_balanced_assignment_is_stable_and_fits(rows, clusters, seed):
    masks, centres = random_masks(rows, 40, seed), random_masks(clusters, 40, seed + 1)
    index, overlap = assign_balanced(pack(masks), pack(centres), 40)
    capacity = -(-rows // clusters)
    overlaps = masks.int() @ centres.int().T
    assert index.bincount().max() <= capacity
    assert torch.equal(overlap, overlaps.gather(1, index[:, None])[:, 0].long())
    for row in range(rows):
        for better in (overlaps[row] > overlap[row]).nonzero().flatten():
            members = overlap[index == better]
            assert len(members) == capacity and members.min() >= overlaps[row, better]


@pytest.mark.parametrize("seeding", ["random", "kmeans++", "stratified"])
def test_seeds_are_different_patterns_of_the_stream(seeding):
    masks = structured_masks(300, 50, 0)
    stream = Stream(pack(masks).split(70))
    seeds = choose_seeds(stream, 50, 20, seeding, seed=1)
    rows = {bytes(row.numpy()) for row in pack(masks)}
    assert len({bytes(row.numpy()) for row in seeds}) == 20
    assert all(bytes(row.numpy()) in rows for row in seeds)
    assert torch.equal(seeds, choose_seeds(Stream([pack(masks)]), 50, 20, seeding, seed=1))
    assert not torch.equal(seeds, choose_seeds(stream, 50, 20, seeding, seed=2))


def test_stratified_seeds_span_the_busy_and_the_quiet():
    masks = torch.arange(64)[None] < torch.arange(64)[:, None]
    seeds = choose_seeds(Stream([pack(masks)]), 64, 8, "stratified", seed=0)
    assert (count_active(seeds).sort().values // 8).tolist() == list(range(8))


def test_seeds_when_all_patterns_are_the_same():
    patterns = pack(torch.ones(9, 12, dtype=torch.bool))
    assert choose_seeds(Stream([patterns]), 12, 4, "kmeans++", 0).shape == (4, 2)
    with pytest.raises(ValueError, match=r"seeding: 'best' is unknown \(allowed: random"):
        choose_seeds(Stream([patterns]), 12, 4, "best", 0)


def test_product_codebooks_are_codebooks_of_each_part(store):
    product = fit_codebook(store, "gate_proj", **FIT, scope="per_layer", patterns=90, groups=2)
    assert product.centroids.shape == (LAYERS, 2, 6, 5)
    assert product.index_bits == 6 and (product.groups, product.clusters) == (2, 6)
    for layer in range(LAYERS):
        whole = unpack(all_patterns(store, "gate_proj", layer)[store.token_positions(30)], 70)
        index = product.choose(whole.float(), layer)
        masks = product.masks(index, layer)
        assert masks.sum(1).eq(2 * 21).all()
        for group, part in enumerate(whole.chunk(2, 1)):
            centroids, objective = Coverage(steps=5, seed=1).fit([pack(part)], 35, 6, 21)
            assert torch.equal(product.of_layer(layer)[group], centroids)
            assert product.objective[layer][group] == objective
            assert int((masks.chunk(2, 1)[group] & part).sum()) == objective[-1]
    flat = fit_codebook(store, "gate_proj", **(FIT | {"clusters": 36}), scope="pooled", patterns=90)
    assert flat.index_bits == product.index_bits
    with pytest.raises(ValueError, match="groups: 4 do not divide the 70 neurons of gate_proj"):
        fit_codebook(store, "gate_proj", **FIT, scope="pooled", patterns=90, groups=4)


@pytest.fixture(scope="module")
def weighted_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weighted")
    generator = torch.Generator().manual_seed(5)
    with PatternWriter(folder, {"model": "tiny"}, 2, {"up_proj": 48}, magnitudes="bfloat16") as writer:
        for layer in range(2):
            values = torch.randn(200, 48, generator=generator).abs() ** 2 * 10**layer
            writer.add("up_proj", layer, values >= values.median(), values)
    return PatternStore(folder)


@pytest.mark.parametrize("scope", ["pooled", "per_layer"])
@pytest.mark.parametrize("power", [0, 1, 2])
def test_weights_that_agree_never_lower_the_objective(weighted_store, scope, power):
    options = {"update_power": power, "assign_power": power}
    arguments = {**FIT, "algorithm": "activation_aware", "steps": 8, "scope": scope, "patterns": 400}
    codebook = fit_codebook(weighted_store, "up_proj", **arguments, options=options)
    assert codebook.assign_power == power
    for histories in codebook.objective:
        for history in histories:
            # Weights are rounded more finely in the update than in the assignment.
            assert all(later >= 0.99 * earlier for earlier, later in pairwise(history))
    if power == 0:
        plain = fit_codebook(weighted_store, "up_proj", **(arguments | {"algorithm": "coverage"}))
        assert torch.equal(plain.centroids, codebook.centroids)


def test_weights_keep_more_energy(weighted_store):
    arguments = {**FIT, "steps": 8, "scope": "per_layer", "patterns": 400, "clusters": 12}
    plain = fit_codebook(weighted_store, "up_proj", **arguments)
    weighted = {"algorithm": "activation_aware", "options": {"update_power": 1, "assign_power": 1}}
    aware = fit_codebook(weighted_store, "up_proj", **(arguments | weighted))
    before, after = (measure(weighted_store, "up_proj", codebook) for codebook in (plain, aware))
    assert after.energy > before.energy > before.baseline_energy
    assert after.recall < before.recall


def test_massive_activations_keep_their_place_among_weights():
    magnitudes = torch.ones(2, 9)
    magnitudes[1, 4] = 1000
    planes = assign_weights(magnitudes, 1.0, 1)
    weights = unpack_planes(planes, 9, torch.int64)
    assert weights[0].eq(weights[0, 0]).all() and weights[0, 0] > 1
    assert weights[1, 4] == 2 ** planes.shape[1] - 1 and weights[1, :4].eq(0).all()
    assert assign_weights(magnitudes, 1.0, 0).ndim == 2


def test_the_layout_of_the_artifact_round_trips(tmp_path, store):
    codebook = fit_codebook(store, "gate_proj", **FIT, scope="pooled", patterns=90)
    path = tmp_path / file_name("gate_proj", 6, 0.4)
    assert path.name == "centroids_gate_6_sparsity_40.pt"
    write_centroids(codebook, path)
    matrix = torch.load(path, weights_only=True)
    assert matrix.dtype == torch.float32 and matrix.shape == (6, 70) and matrix.sum(1).eq(42).all()
    back = read_centroids(path)
    assert torch.equal(back.centroids, codebook.centroids) and back.width == 70 and back.baseline is None
    save_codebooks(tmp_path / "ours", {"gate_proj": back}, {})
    assert torch.equal(load_codebooks(tmp_path / "ours")[0]["gate_proj"].centroids, codebook.centroids)
    layered = fit_codebook(store, "gate_proj", **FIT, scope="per_layer", patterns=90)
    with pytest.raises(ValueError, match="pooled codebooks without groups only"):
        write_centroids(layered, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.full((2, 3), 0.5), "expected centroids of zeros and ones"),
        (torch.ones(3), "expected a matrix of centroids"),
        ({"a": torch.ones(2, 2)}, "expected a matrix of centroids"),
        (fit_codebook, "not a file of tensors"),
    ],
)
def test_foreign_centroids_are_refused(tmp_path, content, message):
    path = tmp_path / "centroids.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message) as error:
        read_centroids(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)

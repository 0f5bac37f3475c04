"""Codebooks of a pattern store: pooled, by layer, in groups, weighted; and how well they cover it."""

from itertools import pairwise

import pytest
import torch
from actsparse.codebooks.codebook import ones_in_centroid
from actsparse.codebooks.coverage import Coverage
from actsparse.codebooks.fit import PatternStream, fit_codebook, single_centroids
from actsparse.codebooks.packing import pack, unpack, unpack_planes
from actsparse.codebooks.quality import measure
from actsparse.codebooks.update import top_entries
from actsparse.codebooks.weights import assign_weights
from made_up_patterns import FIT, LAYERS, TOKENS, WIDTHS, all_patterns, write_store, write_weighted_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("patterns"))


@pytest.fixture(scope="module")
def weighted_store(tmp_path_factory):
    return write_weighted_store(tmp_path_factory.mktemp("weighted"))


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
    assert torch.equal(one.baseline, single_centroids(store, "gate_proj", [42] * LAYERS))
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
        ({"algorithm": "magic"}, r"unknown algorithm 'magic' \(allowed: activation_aware"),
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

"""What patterns may seed, when steps end, which centroids are replaced, and the recall that is recorded."""

import pytest
import torch
from actsparse.codebooks.alternation import Stream, objective_of
from actsparse.codebooks.coverage import Coverage
from actsparse.codebooks.fit import PatternStream, fit_codebook
from actsparse.codebooks.packing import count_active, pack, unpack
from actsparse.codebooks.quality import measure
from actsparse.codebooks.seeding import choose_seeds
from actsparse.codebooks.selection import replace_rare
from actsparse.study.loading import ConfigError, load_study
from made_up_patterns import FIT, structured_masks, write_store, write_weighted_store
from tiny_study import CONFIG, ROOT


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("patterns"))


@pytest.mark.parametrize("seeding", ["random", "kmeans++", "stratified"])
def test_patterns_of_low_sparsity_are_no_seeds(seeding):
    masks = torch.arange(64)[None] < torch.arange(64)[:, None]  # 0 to 63 active neurons
    stream = Stream(pack(masks).split(9))
    seeds = choose_seeds(stream, 64, 8, seeding, 0, seed_sparsity=0.75)
    assert len(set(count_active(seeds).tolist())) == 8 and count_active(seeds).max() <= 16
    with pytest.raises(ValueError, match=r"^seed_sparsity: 0.9 leaves 7 patterns to start 8 clusters from$"):
        choose_seeds(stream, 64, 8, seeding, 0, seed_sparsity=0.9)


def test_rare_centroids_and_duplicates_are_replaced_by_what_is_covered_worst():
    masks = torch.zeros(13, 30, dtype=torch.bool)
    masks[:8, :6] = True
    masks[8:10, 6:12] = True
    masks[10, 12:18] = masks[10, 20:23] = True  # nine neurons, none of them covered
    masks[11:, 12:16] = True
    centroids = torch.zeros(3, 30, dtype=torch.bool)
    centroids[0, :6] = centroids[1, :6] = centroids[2, 6:12] = True
    stream = Stream(pack(masks).split(4))

    same, covered = replace_rare(stream, pack(centroids), 30, 6, 0.0)
    assert torch.equal(unpack(same, 30), centroids) and covered == 8 * 6 + 2 * 6
    replaced, covered = replace_rare(stream, pack(centroids), 30, 6, 0.4)  # fewer than 0.4 x 13 / 3 patterns
    expected = centroids.clone()
    expected[1] = False
    expected[1, 12:18] = True  # the six of its nine neurons that are most frequent
    assert torch.equal(unpack(replaced, 30), expected) and covered == 8 * 6 + 2 * 6 + 6 + 2 * 4
    both, _ = replace_rare(stream, pack(centroids), 30, 6, 0.5)  # the last has two patterns of 13
    assert unpack(both, 30)[2, 12:16].all()


def test_steps_end_when_the_held_out_objective_no_longer_rises():
    fitting, held_out = pack(structured_masks(300, 60, 1)), pack(structured_masks(300, 60, 2))
    method = Coverage(steps=20, seed=0)
    centroids, objective = method.fit([fitting], 60, 12, 30, held_out=[held_out])
    assert 1 < len(objective) < len(method.fit([fitting], 60, 12, 30)[1])
    fits = [Coverage(steps=n, seed=0).fit([fitting], 60, 12, 30) for n in range(len(objective) + 1)]
    covered = [objective_of(Stream([held_out]), fit[0], 60) for fit in fits]
    assert covered[:-1] == sorted(set(covered[:-1])) and covered[-1] <= covered[-2]
    assert torch.equal(centroids, fits[-2][0]) and objective == fits[-2][1]


@pytest.mark.parametrize("scope", ["pooled", "per_layer"])
def test_the_gap_is_recorded(tmp_path, scope):
    store = write_weighted_store(
        tmp_path
    )  # without clusters: what is learned of some tokens is not of others
    arguments = {**FIT, "scope": scope, "patterns": 10**6}
    plain = fit_codebook(store, "up_proj", **arguments)
    assert plain.recall == {"fitting": measure(store, "up_proj", plain).recall}
    codebook = fit_codebook(store, "up_proj", **arguments, options={"validation": 0.25})
    assert codebook.recall["fitting"] > codebook.recall["held_out"] > 0.5
    covered = active = 0
    for layer in range(2):
        masks = torch.cat(list(PatternStream(store, "up_proj", [layer], torch.arange(150, 200))))
        covered += objective_of(Stream([masks]), codebook.of_layer(layer)[0], 48)
        active += int(count_active(masks).sum())
    assert codebook.recall["held_out"] == covered / active
    for share in (0.001, 0.999):
        with pytest.raises(ValueError, match=rf"^validation: {share} of 200 tokens leaves none"):
            fit_codebook(store, "up_proj", **arguments, options={"validation": share})


def test_replacement_is_the_last_entry_of_the_objective(store):
    arguments = {**FIT, "scope": "pooled", "patterns": 10**6, "clusters": 20}
    plain = fit_codebook(store, "gate_proj", **arguments)
    replaced = fit_codebook(store, "gate_proj", **arguments, options={"replace_below": 1})
    assert replaced.objective[0][0][:-1] == plain.objective[0][0]
    assert not torch.equal(replaced.centroids, plain.centroids)
    assert count_active(replaced.centroids).eq(42).all()


def study_of(folder, options, without=()):
    """Load a study of one codebook experiment with these options."""
    experiment = {"method": "codebook", "threshold": 0.5, "clusters": 4, "centroid_sparsity": 0.2, **options}
    (folder / "model").mkdir()
    (folder / "facts.jsonl").touch()
    left_out = {"tasks", "zero_shot", *without}
    config = {key: value for key, value in CONFIG.items() if key not in left_out}
    config["experiments"] = {"book": experiment}
    return load_study(config, ROOT / "rules/schemas/config.schema.yaml", folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1}, "validation"),
        ({"replace_below": 0}, "replace_below"),
        ({"algorithm": "kmeans", "validation": 0.1}, "algorithm kmeans has no such option"),
        ({"algorithm": "penalised", "replace_below": 0.1}, "algorithm penalised has no such option"),
        ({"algorithm": "spherical", "warm_up": 3}, "algorithm spherical has no such option"),
        ({"joint": True, "projections": ["up_proj"]}, "joint: gate_proj and up_proj must both be among"),
        ({"importance": "contribution"}, "importance: algorithm coverage weighs no neurons"),
        ({"allocation": "by_layer"}, r"'by_layer' is not allowed \(allowed: uniform, by_energy\)"),
        ({"rows": "raw"}, "algorithm coverage has no such option"),
        ({"algorithm": "as_published", "rows": "signed"}, r"allowed: binary, magnitudes, raw\)"),
        ({"algorithm": "as_published", "seed_sparsity": 0.1}, "algorithm as_published has no such option"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        study_of(tmp_path, options)


def test_the_published_protocol_is_another_codebook_and_one_window(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = study_of(tmp_path / "ours", {}), study_of(tmp_path / "theirs", {"as_published": True})
    assert [e.kind.first_windows for s in (ours, theirs) for e in s.experiments.values()] == [None, 1]
    assert list(ours.needs["codebooks"]) == ["coverage-pooled-t0.5-k4-s0.2"]
    assert list(theirs.needs["codebooks"]) == ["coverage-pooled-t0.5-thresholded-published-k4-s0.2"]
    with pytest.raises(ConfigError, match=r"book.patterns_of: would be ignored \(as published"):
        (tmp_path / "dense").mkdir()
        study_of(tmp_path / "dense", {"as_published": True, "patterns_of": "dense"})
    with pytest.raises(
        ConfigError, match=r"^perplexity: missing \(required by experiments.book.as_published"
    ):
        (tmp_path / "no").mkdir()
        study_of(tmp_path / "no", {"as_published": True}, without=("perplexity",))

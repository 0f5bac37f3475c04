"""Several seeds: what is repeated and what is shared, the mean and the spread, and what is refused."""

import copy
import csv
import math
import re
import statistics

import pandas as pd
import pytest
import yaml
from actsparse.columns import Column
from actsparse.report.figures.series import over_seeds as points_over_seeds
from actsparse.report.tables.sources import over_seeds
from actsparse.study.loading import ConfigError, load_study
from tiny_study import CONFIG, ROOT, make_study, run

SCHEMA = ROOT / "rules/schemas/config.schema.yaml"
CODEBOOK = {"method": "codebook", "threshold": 0.5, "clusters": 4, "centroid_sparsity": 0.2}
DRAWN = {"method": "prune_activations", "pattern": "2:4", "scorer": "random"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("seeds") / "study")


def study_of(folder, experiments, **more):
    config = CONFIG | {"experiments": {"dense": {}, **experiments}} | more
    return load_study(copy.deepcopy(config), SCHEMA, root=folder)


def test_what_depends_on_a_seed_is_repeated_and_all_else_is_shared(folder):
    act = {"method": "prune_activations", "pattern": "2:4", "scorer": ["magnitude", "random"]}
    study = study_of(folder, {"codebook": CODEBOOK, "act": act}, seeds=[1, 2])
    assert list(study.experiments) == [
        *(
            "dense",
            "codebook-seed1",
            "codebook-seed2",
            "act-magnitude",
            "act-random-seed1",
            "act-random-seed2",
        )
    ]
    assert study.repeats == {
        **{f"codebook-seed{seed}": "codebook" for seed in (1, 2)},
        **{f"act-random-seed{seed}": "act-random" for seed in (1, 2)},
    }
    assert len(study.needs["thresholds"]) == 1
    fits = [spec["fit"]["seed"] for spec in study.needs["codebooks"].values()]
    assert fits == [1, 2]
    assert len({spec["patterns"] for spec in study.needs["codebooks"].values()}) == 1
    assert [e.params.get("seed") for e in study.experiments.values()] == [None, 1, 2, None, 1, 2]


def test_routers_are_trained_for_each_seed_even_where_centroids_are_given(folder):
    centroids = {f"{word}_proj": "facts.jsonl" for word in ("gate", "up", "down")}
    given = CODEBOOK | {"centroids": centroids, "assignment": "router"}
    study = study_of(folder, {"given": given}, seeds=[1, 2])
    assert len(study.needs["codebooks"]) == 1
    assert [spec["training"]["seed"] for spec in study.needs["routers"].values()] == [1, 2]


def test_one_seed_costs_what_it_cost(folder):
    plain = study_of(folder, {"codebook": CODEBOOK, "act": DRAWN})
    for seed in (42, 7):
        study = study_of(folder, {"codebook": CODEBOOK, "act": DRAWN}, seeds=[seed])
        assert list(study.experiments) == list(plain.experiments)
        assert {need: len(names) for need, names in study.needs.items()} == {
            need: len(names) for need, names in plain.needs.items()
        }
        assert study.repeats == {}
    assert study_of(folder, {"codebook": CODEBOOK}, seeds=[42]).needs == (
        study_of(folder, {"codebook": CODEBOOK}).needs
    )


def test_an_experiments_seeds_come_before_the_studys(folder):
    study = study_of(folder, {"codebook": CODEBOOK | {"seeds": [5, 6, 7]}, "act": DRAWN}, seeds=[1, 2])
    assert list(study.experiments)[1:] == [
        *("codebook-seed5", "codebook-seed6", "codebook-seed7", "act-seed1", "act-seed2")
    ]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "experiments.act.seeds: "),
        ([1, 1], "experiments.act.seeds: "),
        ([-1], "experiments.act.seeds.0: -1"),
        ([1.5], "experiments.act.seeds.0: 1.5"),
        (["one"], "experiments.act.seeds.0: 'one'"),
        (3, "experiments.act.seeds: 3"),
    ],
)
def test_seeds_that_are_none_are_refused_in_one_line(folder, seeds, message):
    with pytest.raises(ConfigError) as error:
        study_of(folder, {"act": DRAWN | {"seeds": seeds}})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_seeds_that_would_be_ignored_are_refused(folder):
    act = {"method": "prune_activations", "pattern": "2:4"}
    expected = "experiments.act.seeds: would be ignored (nothing of it depends on a seed)"
    with pytest.raises(ConfigError) as error:
        study_of(folder, {"act": act | {"seeds": [1, 2]}})
    assert str(error.value) == expected
    with pytest.raises(ConfigError) as error:
        study_of(folder, {"act": act}, seeds=[1, 2])
    assert str(error.value) == "seeds: would be ignored (no experiment depends on a seed)"
    with pytest.raises(ConfigError, match=r"scorer: .*'fate'"):
        study_of(folder, {"act": act | {"scorer": "fate", "seeds": [1, 2]}})


def evaluated():
    return pd.DataFrame(
        {
            "experiment": ["dense", "k-seed1", "k-seed2", "k-seed3"],
            "perplexity": [9.0, 10.0, 12.0, 17.0],
            "boolq": [0.5, 0.25, 0.5, math.nan],
            "realised_sparsity": [0.0, 0.5, 0.6, 0.7],
        }
    ).assign(model="smol", method="codebook", pruning="codebook", target_sparsity=0.5)


def test_mean_and_spread_are_those_written_out():
    names = {f"k-seed{seed}": "k" for seed in (1, 2, 3)}
    [row] = over_seeds(evaluated(), [Column("perplexity"), Column("boolq")], names).to_dict("records")
    assert (row["model"], row["experiment"], row["seeds"]) == ("smol", "k", 3)
    # Of 10, 12 and 17: the mean is 13, the squares of the distances 9 + 1 + 16, over 3 - 1.
    assert row["perplexity"] == 13.0
    assert row["perplexity_spread"] == pytest.approx(math.sqrt(26 / 2), rel=1e-15)
    assert math.isnan(row["boolq"]) and math.isnan(row["boolq_spread"])  # one seed has none
    assert over_seeds(evaluated(), [Column("perplexity")], {}).empty


def test_points_of_figures_are_means_with_their_spread():
    found = evaluated().assign(series="codebook", sparsity=[0.0, 0.25, 0.5, 0.75], repeats=["dense", *"kkk"])
    averaged = points_over_seeds(found, "perplexity")
    assert averaged.perplexity.tolist() == [9.0, 13.0]
    assert averaged.sparsity.tolist() == [0.0, 0.5]
    assert averaged.spread.tolist() == pytest.approx([0.0, math.sqrt(13)], rel=1e-15)


def test_a_study_of_two_seeds_runs_and_its_table_has_their_mean(tmp_path):
    config = {key: value for key, value in CONFIG.items() if key not in ("zero_shot", "tasks")}
    config |= {"seeds": [1, 2], "experiments": {"dense": {}, "codebook": CODEBOOK, "act": DRAWN}}
    study = make_study(tmp_path / "study", config)
    printed = run(study).stdout
    jobs = dict(line.split() for line in printed.splitlines() if re.fullmatch(r"\w+ +\d+", line))
    expected = {"fit_codebook": "2", "extract_patterns": "1", "measure_histograms": "1", "evaluate": "5"}
    assert {rule: jobs[rule] for rule in expected} == expected

    def rows(table):
        with (study / f"results/tiny/tables/{table}.csv").open() as stream:
            return list(csv.DictReader(stream))

    each = {row["experiment"]: float(row["perplexity"]) for row in rows("results")}
    assert each["act-seed1"] != each["act-seed2"]
    found = {row["experiment"]: row for row in rows("seeds")}
    assert list(found) == ["codebook", "act"]
    for name, row in found.items():
        values = [each[f"{name}-seed{seed}"] for seed in (1, 2)]
        assert row["seeds"] == "2"
        assert float(row["perplexity"]) == pytest.approx(sum(values) / 2, rel=1e-12)
        assert float(row["perplexity_spread"]) == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-12)
    assert yaml.safe_load((study / "results/tiny/config.yaml").read_text())["seeds"] == [1, 2]

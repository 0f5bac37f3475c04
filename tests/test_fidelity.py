"""Published numbers beside ours: every published cell gets a verdict, for a stated reason."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from actsparse.kinds import KINDS
from actsparse.report.fidelity import (
    COLUMNS,
    COUNT,
    COUNT_AS_PUBLISHED,
    _verdict,
    compare,
    hub_name,
    known_difference,
    why_not_comparable,
)
from actsparse.report.published import PROJECTIONS, read_published
from actsparse.report.shapes import COLUMNS as SHAPES
from actsparse.report.shapes import shapes

FOLDER = Path(__file__).parent.parent / "published"
CELLS = read_published(FOLDER)
TOLERANCES = yaml.safe_load((FOLDER / "tolerances.yaml").read_text())
KNOWN = yaml.safe_load((FOLDER / "known_differences.yaml").read_text())
LLAMA = "NousResearch/Llama-2-7b-chat-hf"
QWEN = "Qwen/Qwen2.5-7B-Instruct"
CONFIG = {
    "seed": 42,
    "models": {"llama-2": {"source": f"hf://{LLAMA}@abc"}},
    "corpora": {"wikitext": {"source": "hf://Salesforce/wikitext", "name": "wikitext-2-raw-v1"}},
    "perplexity": {"corpus": "wikitext", "split": "test", "sequence_length": 2048, "sequences": None},
    "zero_shot": {"tasks": ["boolq", "piqa"], "limit": None, "apply_chat_template": False},
}
NM = {"pattern": "2:4", "scorer": "magnitude", "mitigation": "none", "projections": list(PROJECTIONS)}


def kind(word, params):
    return KINDS[word].of(params)


def study(*rows, model="llama-2"):
    """Rows and kinds of experiments given as (pruning, perplexity, params)."""
    frame = pd.DataFrame(
        {
            "model": model,
            "experiment": f"e{i}",
            "method": "dense" if pruning == "none" else "prune_activations",
            "pruning": pruning,
            "perplexity": perplexity,
            "boolq": 0.7,
            "boolq_stderr": 0.008,
            COUNT: 0 if pruning == "none" else 200,
            COUNT_AS_PUBLISHED: 0 if pruning == "none" else 224,
        }
        for i, (pruning, perplexity, _) in enumerate(rows)
    )
    kinds = {
        (model, f"e{i}"): kind("dense", {})
        if pruning == "none"
        else kind("prune_activations", given | {"pattern": pruning})
        for i, (pruning, _, given) in enumerate(rows)
    }
    return frame, kinds


def verdicts(rows, config=CONFIG):
    frame, params = study(*rows)
    table = compare(frame, params, config, CELLS, TOLERANCES, KNOWN)
    ours = table[table.experiment.notna()]
    return {(row.row, row.metric): (row.verdict, row.reason) for row in ours.itertuples()}, table


def test_published_cells_are_read():
    assert len(CELLS) == 244 + 4
    [cell] = [c for c in CELLS if (c.model, c.row, c.metric, c.left_out) == (LLAMA, "2:4", "perplexity", ())]
    assert (cell.value, cell.digit, cell.chat_template) == (10.23, 0.01, False)
    left_out = {c.row: c.projections for c in CELLS if c.left_out}
    assert left_out["0.5 wt"] == ["gate_proj", "up_proj", "down_proj"]
    assert {c.row for c in CELLS if c.table == "threshold_perplexity"} == {"threshold 0.3", "threshold 0.5"}


def test_verdicts():
    found, table = verdicts([("none", 6.95, {}), ("2:4", 12.0, NM), ("4:8", 8.0, NM)])
    assert found["none", "perplexity"] == ("within tolerance", "")
    assert found["2:4", "perplexity"] == ("outside", "")
    assert found["2:4", "boolq"] == ("within tolerance", "")
    assert found["2:4", COUNT] == ("within tolerance", "")
    assert found["4:8", "perplexity"][0] == "not published"
    assert found["2:4", "piqa"] == ("not comparable", "not measured here, or not finite")
    rest = table[table.experiment.isna()]
    assert set(rest.verdict) == {"not comparable"}
    assert set(rest.reason) == {"the model is not in this study", "no such experiment here"}
    difference = table[(table.experiment == "e1") & (table.metric == "perplexity")].difference.item()
    assert difference == pytest.approx(12.0 - 10.23)


def test_every_published_cell_is_there():
    _, table = verdicts([("none", 6.95, {})])
    assert table.published.notna().sum() == len(CELLS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"perplexity": CONFIG["perplexity"] | {"split": "train"}}, "ours on wikitext (train)"),
        ({"perplexity": CONFIG["perplexity"] | {"sequences": 4}}, "all windows of 2048 tokens"),
        ({"perplexity": CONFIG["perplexity"] | {"sequence_length": 512}}, "all windows of 2048 tokens"),
    ],
)
def test_another_protocol_is_not_compared(change, reason):
    found, _ = verdicts([("2:4", 10.23, NM)], CONFIG | change)
    assert found["2:4", "perplexity"][0] == "not comparable"
    assert reason in found["2:4", "perplexity"][1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"limit": 24}, "ours on the first 24"), ({"apply_chat_template": True}, "without the chat template")],
)
def test_other_items_or_prompts_are_not_compared(change, reason):
    config = CONFIG | {"zero_shot": CONFIG["zero_shot"] | change}
    found, _ = verdicts([("2:4", 10.23, NM)], config)
    assert reason in found["2:4", "boolq"][1]


def test_a_model_may_have_its_own_prompts():
    config = CONFIG | {"models": {"llama-2": CONFIG["models"]["llama-2"] | {"apply_chat_template": True}}}
    found, _ = verdicts([("2:4", 10.23, NM)], config)
    assert "without the chat template" in found["2:4", "boolq"][1]


@pytest.mark.parametrize("change", [{"scorer": "wina"}, {"mitigation": "shift"}, {"projections": ["q_proj"]}])
def test_another_method_is_not_the_published_one(change):
    found, _ = verdicts([("2:4", 10.23, NM | change)])
    assert found["2:4", "perplexity"][0] == "not published"


def test_known_differences():
    pruned = next(c for c in CELLS if c.model == QWEN and c.row == "2:4" and c.metric == "perplexity")
    assert "bias" in known_difference(pruned, KNOWN)
    assert "bias" in why_not_comparable(pruned, CONFIG, "llama-2", kind("prune_activations", NM), KNOWN)
    as_published = kind("prune_activations", NM | {"as_published": True})
    assert why_not_comparable(pruned, CONFIG, "llama-2", as_published, KNOWN) == ""
    dense = next(c for c in CELLS if c.model == QWEN and c.row == "none")
    attention_kept = next(c for c in CELLS if c.model == QWEN and "q_proj" in c.left_out)
    assert known_difference(dense, KNOWN) == known_difference(attention_kept, KNOWN) == ""
    weights = [c for c in CELLS if c.model == QWEN and c.row.endswith(" wt")]
    assert weights and not any(known_difference(c, KNOWN) for c in weights)  # their bias stays


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(10.23 * 1.01, "within tolerance"), (10.23 * 1.01 + 0.006, "outside"), (10.23 * 0.985, "outside")],
)
def test_perplexity_may_differ_by_one_percent_and_half_a_digit(ours, verdict):
    assert verdicts([("2:4", ours, NM)])[0]["2:4", "perplexity"] == (verdict, "")


@pytest.mark.parametrize(("stderr", "verdict"), [(0.008, "within tolerance"), (0.005, "outside")])
def test_accuracy_may_differ_by_one_standard_error(stderr, verdict):
    frame, params = study(("2:4", 10.23, NM))
    table = compare(frame.assign(boolq_stderr=stderr), params, CONFIG, CELLS, TOLERANCES, KNOWN)
    # 0.706 was published, ours is 0.7.
    assert table[(table.experiment == "e0") & (table.metric == "boolq")].verdict.item() == verdict


def test_of_a_row_published_twice_the_one_of_another_variant_does_not_count():
    rows = [c for c in CELLS if (c.model, c.metric) == (LLAMA, "perplexity") and c.row.endswith(" wt")]
    known = {c.value: bool(known_difference(c, KNOWN)) for c in rows}
    first, later = {42.4, 20.47}, {13.39, 5.884, 15.68, 63609.81}
    assert known == dict.fromkeys(first, False) | dict.fromkeys(later, True)


@pytest.mark.parametrize("as_published_first", [True, False])
def test_what_a_correct_run_cannot_reproduce_is_compared_as_published(as_published_first):
    rows = [("2:4", 237000.0, NM | {"as_published": True}), ("2:4", 9.0, NM)]
    frame, params = study(*(rows if as_published_first else rows[::-1]), model="qwen")
    config = CONFIG | {"models": {"qwen": {"source": f"hf://{QWEN}", "apply_chat_template": True}}}
    table = compare(frame, params, config, CELLS, TOLERANCES, KNOWN)
    found = {
        row.reproduced: row.verdict
        for row in table[(table.metric == "perplexity") & table.experiment.notna()].itertuples()
    }
    assert found == {237000.0: "within tolerance", 9.0: "not published"}


def test_shapes_compare_order_and_size_of_loss():
    frame, params = study(
        ("none", 10.0, {}), ("2:4", 20.0, NM), ("8:16", 15.0, NM), ("2:4", 99.0, NM | {"scorer": "wina"})
    )
    table = shapes(frame, params, CELLS, KNOWN)
    assert set(table.published_model) == {LLAMA, "google/gemma-3-4b-it"}
    assert table.rank_correlation.tolist() == pytest.approx([1.0] * 4)
    row = table[(table.published_model == LLAMA) & (table.row == "2:4")].iloc[0]
    assert (row["rank"], row.published_rank, row.over_dense) == (2, 2, 2.0)
    assert row.published_over_dense == pytest.approx(10.23 / 6.943)


@pytest.mark.parametrize("last", [{"as_published": True}, {"projections": ["gate_proj", "up_proj"]}])
def test_shapes_compare_the_published_experiment_whichever_comes_last(last):
    frame, params = study(("none", 10.0, {}), ("2:4", 20.0, NM), ("8:16", 15.0, NM), ("2:4", 99.0, NM | last))
    table = shapes(frame, params, CELLS, KNOWN)
    assert set(table[table.row == "2:4"].over_dense) == {2.0}


def test_a_reversed_order_shows():
    frame, params = study(("none", 10.0, {}), ("2:4", 15.0, NM), ("8:16", 20.0, NM))
    assert shapes(frame, params, CELLS, KNOWN).rank_correlation.tolist() == pytest.approx([-1.0] * 4)


def test_row_words():
    assert kind("threshold", {"sparsity": 0.5}).published_row == "threshold 0.5"
    assert kind("prune_weights", {"pattern": "2:4"}).published_row == "2:4 wt"


def test_a_verdict_says_what_was_compared():
    frame, kinds = study(("none", 6.94, {}), ("2:4", 10.23, NM), ("1:3", 50.0, NM))
    table = compare(frame, kinds, CONFIG, CELLS, TOLERANCES, KNOWN)
    assert list(table.columns) == COLUMNS
    [row] = table[(table.experiment == "e1") & (table.metric == "perplexity")].to_dict("records")
    expected = {
        "model": "llama-2",
        "row": "2:4",
        "published": 10.23,
        "published_model": LLAMA,
        "reproduced": 10.23,
        "verdict": "within tolerance",
    }
    assert {key: row[key] for key in expected} == expected
    [cell] = [c for c in CELLS if (c.model, c.row, c.metric, c.left_out) == (LLAMA, "2:4", "perplexity", ())]
    assert row["source"] == cell.source and row["difference"] == 0
    [left_out] = {c.left_out for c in CELLS if c.row == "0.5 wt" and c.left_out}
    assert {f"0.5 wt without {', '.join(left_out)}", "2:4"} <= set(table.row)
    ours = table[table.verdict == "not published"]
    assert set(zip(ours.model, ours.experiment, ours.row, strict=True)) == {("llama-2", "e2", "1:3")}


def test_a_model_that_is_not_in_the_study_is_told_apart_from_an_experiment_that_is_not():
    frame, kinds = study(("none", 6.94, {}))
    table = compare(frame, kinds, CONFIG, CELLS, TOLERANCES, KNOWN)
    reasons = table[table.verdict == "not comparable"].groupby("published_model").reason.agg(set)
    assert reasons[QWEN] == {"the model is not in this study"}
    assert "no such experiment here" in reasons[LLAMA]


@pytest.mark.parametrize(
    ("value", "digit", "ours", "stderr", "verdict"),
    [
        (10.0, 0.1, 10.149, 0.0, "within tolerance"),  # 1 % of 10 and half a digit
        (10.0, 0.1, 10.151, 0.0, "outside"),
        (10.0, 0.25, 10.224, 0.0, "within tolerance"),
        (10.0, 0.25, 9.77, 0.0, "outside"),
    ],
)
def test_what_a_perplexity_may_differ_by(value, digit, ours, stderr, verdict):
    cell = replace(CELLS[0], metric="perplexity", value=value, digit=digit)
    assert _verdict(cell, ours - value, stderr, TOLERANCES) == verdict


@pytest.mark.parametrize(("difference", "verdict"), [(0, "within tolerance"), (1, "outside")])
def test_counts_of_layers_are_exact(difference, verdict):
    cell = replace(CELLS[0], metric=COUNT, value=224, digit=1)
    assert _verdict(cell, difference, 0.0, TOLERANCES) == verdict


def test_an_error_that_was_not_measured_excuses_nothing():
    frame, kinds = study(("none", 6.94, {}))
    [cell] = [c for c in CELLS if (c.model, c.row, c.metric) == (LLAMA, "none", "boolq")][:1]
    frame["boolq"] = cell.value + cell.digit
    table = compare(frame.drop(columns="boolq_stderr"), kinds, CONFIG, [cell], TOLERANCES, [])
    assert table.verdict[0] == "outside"


def test_a_local_source_is_its_own_name():
    assert hub_name("models/llama@2") == "models/llama@2"
    assert hub_name("hf://org/llama@abc") == "org/llama"


def test_shapes_of_several_models_stay_in_the_order_of_the_study():
    assert list(shapes(pd.DataFrame({"model": ["a"]}), {}, [], []).columns) == SHAPES
    theirs = replace(CELLS[0], table="t", model="theirs", metric="perplexity", left_out=())
    published = [replace(theirs, row="2:4", value=3.0), replace(theirs, row="4:8", value=2.0)]
    frames = [study(("2:4", 8.0, NM), ("4:8", 9.0, NM), model=name) for name in ("z", "a")]
    rows = pd.concat([frame for frame, _ in frames], ignore_index=True)
    kinds = {key: value for _, known in frames for key, value in known.items()}
    found = shapes(rows, kinds, published, [])
    assert list(found.columns) == SHAPES
    assert found.model.tolist() == ["z", "z", "a", "a"]
    assert found["rank"].tolist() == [1, 2, 1, 2] and found.published_rank.tolist() == [2, 1, 2, 1]
    assert found.rank_correlation.tolist() == pytest.approx([-1.0] * 4)
    assert found.over_dense.isna().all()  # no dense row, so nothing to be over

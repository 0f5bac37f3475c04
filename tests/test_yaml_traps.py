"""What YAML reads otherwise than it looks is refused with its line; keys are the same however written."""

import json

import pytest
import yaml
from actsparse.errors import ConfigError
from actsparse.study.places import located
from actsparse.study.yaml_traps import check_files, with_text_keys
from tiny_study import CONFIG, ROOT, make_study, run

TRAPS = {
    # text of a config, whole message
    "an exponent without a point": (
        "study: t\ntraining: {learning_rate: 1e-4}\n",
        'training.learning_rate: YAML takes 1e-4 for a text (write 1.0e-4 or 0.0001 for the number, "1e-4" '
        "for a text) (c.yaml, line 2)",
    ),
    "an exponent without a sign": (
        "a:\n  b: [2.5e3]\n",
        'a.b: YAML takes 2.5e3 for a text (write 2.5e+3 or 2500 for the number, "2.5e3" for a text) '
        "(c.yaml, line 2)",
    ),
    "a pattern": (
        "act: {pattern: 2:4}",
        'act.pattern: YAML takes 2:4 for the number 124 (write "2:4") (c.yaml, line 1)',
    ),
    "one of several patterns": (
        'act:\n  pattern:\n  - "2:4"\n  - 8:16\n',
        'act.pattern: YAML takes 8:16 for the number 496 (write "8:16") (c.yaml, line 4)',
    ),
    "a pattern as a key": ("a: {4:8: x}", 'a.4:8: YAML takes 4:8 for the number 248 (write "4:8") '),
    "an octal": ("a: 010", 'a: YAML takes 010 for the octal of 8 (write 8, or "010" for a text) '),
    "a date": ("study: 2024-01-01", 'study: YAML takes 2024-01-01 for a date (write "2024-01-01") '),
    "a key that is true": ("tasks: {on: x}", 'tasks.on: YAML takes the key on for true (write "on") '),
    "a key that is null": ("a: {~: x}", 'a.~: YAML takes the key ~ for null (write "~") '),
    "a name that is a number": ("models: {1.10: x}", "models.1.10: YAML takes the key 1.10 for 1.1 "),
    "a key twice": (
        "experiments:\n  act: {}\n  dense: {}\n  act: {}\n",
        "experiments.act is given twice (c.yaml, line 2 and line 4)",
    ),
    "a block twice": ("a: {}\nb: {}\na: {}\n", "a is given twice (c.yaml, line 1 and line 3)"),
    "a number twice": (
        'models:\n  m:\n    thresholds:\n      0.5: x\n      "0.50": y\n',
        "models.m.thresholds.0.50 is given twice (c.yaml, line 4 and line 5)",
    ),
    "a merge twice": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "b.<< is given twice (c.yaml, line 3 and "),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_is_told_with_its_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, message = TRAPS[name]
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        check_files([tmp_path / "c.yaml"])
    assert str(error.value).startswith(message)
    assert located(error.value, ["c.yaml"]) == str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1.0e-4, 1.0e+4, .5, 0, 12, 1_000, 0x1f, -3, 9:99, '1e-4', \"2:4\", !!str 2:4]",
        "a: &a {x: 1, y: yes}\nb: {<<: *a, x: 2}\nc: *a",
        "models: {m: {thresholds: {0.50: x, .25: y}}}",
        "models: {7: x, 7b: y, e5: z}",
        "a: {revision: 1e}",
    ],
)
def test_what_is_read_as_it_looks_passes(text, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    check_files([tmp_path / "c.yaml"])


def test_json_has_numbers_of_its_own_and_equal_keys(tmp_path):
    (tmp_path / "c.json").write_text('{\n\t"a": {"rate": 1e-4}\n}')
    check_files([tmp_path / "c.json"])
    (tmp_path / "c.json").write_text('{\n\t"a": 1,\n\t"a": 2\n}')
    with pytest.raises(ConfigError, match=r"a is given twice \(.*c\.json, line 2 and line 3\)"):
        check_files([tmp_path / "c.json"])


def test_the_project_has_no_trap_in_its_own_configs():
    check_files([ROOT / "config.yaml", *(ROOT / "configs").glob("*.yaml")])


@pytest.mark.parametrize("key", [0.5, "0.5", "0.50", "5e-1"])
def test_a_sparsity_is_the_same_however_it_is_written(key):
    config = {"models": {"m": {"thresholds": {key: "x"}, "patterns": {key: "y"}}}}
    assert with_text_keys(config)["models"]["m"] == {"thresholds": {"0.5": "x"}, "patterns": {"0.5": "y"}}


def test_names_keep_their_digits_and_two_of_one_number_are_refused():
    assert with_text_keys({"models": {7: {}, "0.50": {}}}) == {"models": {"7": {}, "0.50": {}}}
    with pytest.raises(ConfigError, match=r"models\.m\.patterns\.0\.5 is given twice"):
        with_text_keys({"models": {"m": {"patterns": {0.5: "x", "0.50": "y"}}}})


def test_a_message_names_the_file_that_a_value_came_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("models:\n  m-1.5:\n    dtype: x\n    source: y\nseed: 1\n")
    (tmp_path / "mine.yaml").write_text("models:\n  m-1.5:\n    source: z\n")
    files = ["base.yaml", "mine.yaml"]

    def told(message, given=None):
        return located(ConfigError(message), files, given)

    assert told("models.m-1.5.dtype: bad") == "models.m-1.5.dtype: bad (base.yaml, line 3)"
    assert told("models.m-1.5.source: bad") == "models.m-1.5.source: bad (mine.yaml, line 3)"
    assert told("models.m-1.5.shape: missing") == "models.m-1.5.shape: missing (base.yaml, line 2)"
    assert told("seed: bad", {"seed": 2}) == "seed: bad (--config)"
    assert told("study: missing") == "study: missing"


def test_a_study_says_where_its_mistake_stands(tmp_path):
    config = CONFIG | {"experiments": {"dense": {}}}
    study = make_study(tmp_path / "study", config)
    with (study / "config.yaml").open("a") as file:
        file.write("experiments:\n  act: {method: prune_activations, pattern: 2:4}\n")
    printed = run(study, "--dry-run", check=False).stdout
    first = yaml.safe_dump(config, sort_keys=False).splitlines().index("experiments:") + 1
    last = len((study / "config.yaml").read_text().splitlines()) - 1
    assert f"config: experiments is given twice (config.yaml, line {first} and line {last})" in printed
    (study / "config.yaml").write_text(json.dumps(config | {"seed": "x"}, indent=1))
    assert "config: seed: 'x' is not allowed" in (printed := run(study, "-n", check=False).stdout)
    assert "(config.yaml, line " in printed

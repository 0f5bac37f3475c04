"""A resource's path tells what it was made from: studies that share a folder do not undo each other."""

import json
import shutil
from copy import deepcopy

import pytest
import yaml
from actsparse.artifacts import origin
from actsparse.study.loading import ConfigError, load_study
from tiny_study import CONFIG, ROOT, make_study, run

ENTRY = {"source": "hub://a/b", "dtype": "float32", "thresholds": {}, "patterns": {}}


@pytest.mark.parametrize("same", [{"dtype": "bfloat16"}, {"thresholds": {"0.5": "t.json"}}])
def test_how_a_model_is_used_is_not_where_it_comes_from(same):
    assert origin(ENTRY | same) == origin(ENTRY)


OTHERS = [{"source": "hub://a/c"}, {"sha256": "0" * 64}, {"trust_remote_code": True}]


@pytest.mark.parametrize("other", OTHERS)
def test_another_source_is_another_origin(other):
    assert origin(ENTRY | other) != origin(ENTRY)


def test_the_sizes_of_a_fetched_model_are_checked_like_a_local_ones(tmp_path):
    config = deepcopy(CONFIG)
    config["models"]["llama"]["source"] = "hf://org/llama"
    config["corpora"] = {"facts": {"source": "hf://org/text"}}
    del config["tasks"], config["zero_shot"]
    study = load_study(config, ROOT / "rules/schemas/config.schema.yaml", tmp_path)
    folder = tmp_path / "resources/models" / f"llama-{origin(study.config['models']['llama'])}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        '{"max_position_embeddings": 8, "hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1}'
    )
    with pytest.raises(ConfigError, match="longer than the 8 that llama takes"):
        load_study(config, ROOT / "rules/schemas/config.schema.yaml", tmp_path)


def test_two_studies_with_one_name_for_two_models(tmp_path):
    study = make_study(tmp_path / "s")
    shutil.copytree(study / "model", study / "other")
    settings = json.loads((study / "other/config.json").read_text())
    (study / "other/config.json").write_text(json.dumps(settings | {"rope_theta": 20_000.0}))
    mine, theirs = CONFIG, deepcopy(CONFIG)
    theirs["models"]["llama"]["source"] = "other"
    for config in (mine, theirs):
        (study / "config.yaml").write_text(yaml.safe_dump(config))
        assert "Fetching model" in run(study, "--until", "fetch_model").stdout
    for config in (mine, theirs):
        (study / "config.yaml").write_text(yaml.safe_dump(config))
        assert "Fetching model" not in run(study, "--until", "fetch_model").stdout
    manifests = [json.loads(path.read_text()) for path in study.glob("resources/models/llama-*.json")]
    assert len({manifest["digest"] for manifest in manifests}) == 2

"""docs/configuration.md is what the schema says."""

from pathlib import Path

import yaml
from actsparse.study.schema import whole_schema
from document_config import ROOT, SCHEMA, page


def test_the_page_is_current():
    made = page(whole_schema(SCHEMA))
    kept = (Path(ROOT) / "docs/configuration.md").read_text()
    assert made == kept, "run `python workflow_scripts/document_config.py`"


def test_every_key_of_the_default_study_is_on_the_page():
    text = (ROOT / "docs/configuration.md").read_text()
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    for key, value in config.items():
        assert f"`{key}`" in text
        for inner in value if isinstance(value, dict) and key in ("calibration", "zero_shot") else []:
            assert f"`{key}.{inner}`" in text

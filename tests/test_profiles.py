"""The profiles: what they share, and what each must name."""

import re

import pytest
import yaml
from tiny_study import ROOT

PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))
SHARED = ("rerun-incomplete", "nolock", "rerun-triggers", "show-failed-logs")


def gpu_rules() -> set[str]:
    """The rules that ask for a GPU."""
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    blocks = re.findall(r"^rule (\w+):(.*?)(?=^rule |\Z)", rules, re.MULTILINE | re.DOTALL)
    return {name for name, block in blocks if "gpu=" in block}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_entry_has_a_comment(path):
    """A comment stands above each entry, or above the entries without a gap that it belongs to."""
    above = ""
    for line in path.read_text().splitlines():
        key = re.match(r"([\w-]+):", line)
        if key and key[1] not in ("__use_yte__", "__definitions__"):
            assert "#" in above, f"{path.parent.name}: {key[1]}"
        above = above + line if line.strip() else ""


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_what_all_profiles_share(path):
    default = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    profile = yaml.safe_load(path.read_text())
    assert {key: profile[key] for key in SHARED} == {key: default[key] for key in SHARED}


def test_slurm_names_the_lines_to_adapt_and_all_gpu_rules():
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    assert re.findall(r"^ *# (\d)\. ", text, re.MULTILINE) == list("12345")
    assert set(yaml.safe_load(text)["set-threads"]) == gpu_rules()

"""A plan of a thousand experiments is made in seconds."""

import sys

from tiny_study import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from dag import plan, study


def test_a_thousand_experiments_on_four_models_are_planned_in_seconds_and_under_a_gigabyte():
    """How many, docs/scaling.md tells; these bounds hold on a busy machine."""
    took = plan(study(1000, 4))
    # By two benchmarks; 1,000 codebooks and 1,000 thresholds; what each model, the text and the tables need.
    assert took["jobs"] == 8000 + 1000 + 1000 + 4 * 6 + 4 + 5
    assert took["peak_memory_mb"] < 1000
    assert took["processor_seconds"] < 45

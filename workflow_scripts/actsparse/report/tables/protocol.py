"""What the numbers of a study were measured on, in sentences for captions."""

from typing import Any

from actsparse.benchmarks import BENCHMARKS
from actsparse.kinds import KINDS
from actsparse.wording import told_windows


def protocol(config: dict[str, Any], records: dict[str, list[dict]] | None = None) -> dict[str, str]:
    """Return {source of a table: sentences} of a validated config; "" where there is nothing to say.

    With the results, by benchmark, if there are any, they say more.
    """
    told = {
        word: benchmark.told(config, (records or {}).get(word, ()))
        for word, benchmark in BENCHMARKS.items()
        if word in config
    }
    counted = f"Counted on {told_windows(config, 'calibration')}." if "calibration" in config else ""
    extra = {kind.extra_rows.source: kind.told_rows(config) for kind in KINDS.values() if kind.extra_rows}
    measured = " ".join(told.values())
    results = dict.fromkeys(("evaluations", "seeds", "comparisons"), measured)
    return {**results, "thresholds": counted, **extra}

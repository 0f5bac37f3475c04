"""Which jobs of a run failed, and in which words, for the last lines in the terminal."""

import re
from pathlib import Path

# As `log_to` ends the log of a job that failed.
ERROR = re.compile(r"\w*(Error|Exception): ")


def failures(logs: list[str], since: float) -> list[str]:
    """Return a line for each log below the folders `logs`, written after `since`, that ends with an error.

    Snakemake's own words are not asked: what they tell of a job depends on how quiet it is.
    """
    found = (path for folder in logs for path in sorted(Path(folder).rglob("*.log")))
    ends = {path: last_line(path) for path in found if path.stat().st_mtime >= since}
    return [f"{path}: {line}" for path, line in ends.items() if ERROR.match(line)]


def last_line(path: Path) -> str:
    """Return the last line of a file that is not empty."""
    return next(filter(None, reversed(path.read_text(errors="replace").splitlines())), "")

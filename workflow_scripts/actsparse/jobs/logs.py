"""Where a job's words go: everything into its log file, progress to whoever is watching."""

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LOG_LINES = 30


@contextmanager
def log_to(path: str | Path) -> Iterator[None]:
    """Send stdout and stderr of this process, C libraries included, to the file `path`.

    An exception is written there in full and raised again as SystemExit(1), so that the terminal shows
    Snakemake's one message with the log's name and not a second traceback.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with Path(path).open("w", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """Iterate with rate and ETA: a bar on a terminal, a line now and then in a log."""
    watched = sys.stderr.isatty()
    return tqdm(
        items,
        desc=label,
        total=total,
        ascii=not watched,
        mininterval=0.2 if watched else SECONDS_BETWEEN_LOG_LINES,
        maxinterval=0.2 if watched else SECONDS_BETWEEN_LOG_LINES,
    )

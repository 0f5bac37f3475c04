"""Files that are either whole or absent: atomic writes, JSON, checksums."""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` on success, delete it on error.

    The caller may create a file or a directory there. An existing `target` is replaced.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    temporary = holder / target.name
    try:
        yield temporary
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_json(target: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Raises ValueError on NaN or infinity."""
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(source: str | Path) -> Any:
    """Read a JSON file. Raises ValueError naming the file when it is truncated or not JSON."""
    try:
        return json.loads(Path(source).read_text())
    except ValueError as error:
        raise ValueError(f"{source}: not valid JSON ({error})") from error


def sha256_of(source: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with Path(source).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-serialisable value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def number(value: float | None) -> float:
    """Return a value of a JSON as a float; null (not finite, or not measured) is NaN."""
    return math.nan if value is None else value

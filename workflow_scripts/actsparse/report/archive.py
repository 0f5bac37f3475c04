"""A finished study as one RO-Crate: all that its tables and figures are made of, without models and texts.

Unpacked in a fresh clone, it lets `snakemake tables figures --configfile results/<study>/config.yaml` run
without any model.
"""

import mimetypes
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rocrate.rocrate import ROCrate

from actsparse.jobs.files import atomic_path, sha256_of

# What is kept of results/<study>/, in the order of unpacking: no file looks older than what it is made of.
KEPT = (
    "thresholds/**/*.json",
    "active_neurons/**/*.json",
    "evaluations/**/*.json",
    "benchmarks/**/*.tsv",
    "logs/**/*.log",
    "tables/results.*",
    "tables/*",
    "figures/*",
    "provenance.*",
    "config.*",
)
CHECKSUMS = "SHA256SUMS"


def archive_study(results: Path, commit: str | None, target: Path) -> None:
    """Pack `results` (results/<study>) into the zip `target`, atomically.

    Every file has its SHA-256 in ro-crate-metadata.json and in SHA256SUMS (`sha256sum --check`).
    """
    results = Path(results)
    root = Path("results") / results.name
    with tempfile.TemporaryDirectory() as scratch:
        files = {root / path.relative_to(results): path for path in kept_files(results)}
        sums = Path(scratch) / CHECKSUMS
        sums.write_text("".join(f"{sha256_of(path)}  {name}\n" for name, path in files.items()))
        crate = ROCrate()
        crate.name = f"ActSparse study {results.name}"
        crate.description = (
            f"Config, results, tables, figures, logs and benchmarks of the study {results.name}, "
            f"made by ActSparse at commit {commit or 'unknown'}."
        )
        crate.license = "https://www.apache.org/licenses/LICENSE-2.0"
        for name, path in {**files, Path(CHECKSUMS): sums}.items():
            properties = {"sha256": sha256_of(path), "contentSize": str(path.stat().st_size)}
            kind, _ = mimetypes.guess_type(name.name)
            properties |= {"encodingFormat": kind} if kind else {}
            crate.add_file(path, name.as_posix(), properties=properties)
        with atomic_path(target) as temporary:
            written = crate.write_zip(Path(scratch) / "crate.zip")
            shutil.move(written, temporary)


def kept_files(results: Path) -> Iterator[Path]:
    """Yield the files of results/<study> that go into the archive, in a fixed order; some twice."""
    for pattern in KEPT:
        yield from (path for path in sorted(results.glob(pattern)) if path.is_file())

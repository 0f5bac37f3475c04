"""A finished study as one RO-Crate: all that its tables and figures are made of, without models and texts.

Restored in a clone, it lets `snakemake tables figures --configfile results/<study>/config.yaml` run without
any model.
"""

import mimetypes
import os
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from rocrate.rocrate import ROCrate

from actsparse.artifacts import METADATA
from actsparse.jobs.files import atomic_path, sha256_of

# What is kept of results/<study>/.
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
        unpacked = Path(scratch) / "crate"
        crate.write(unpacked)
        for name, path in files.items():
            os.utime(unpacked / name, (path.stat().st_atime, path.stat().st_mtime))
        with (
            atomic_path(target) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for path in sorted(unpacked.rglob("*")):
                packed.write(path, path.relative_to(unpacked))


def restore_study(archive: Path, folder: Path) -> str:
    """Unpack a study's archive into `folder`, a clone of the workflow, and return the study's name.

    Every file gets one date, the present: the results are then no older than a model that was fetched
    meanwhile, and Snakemake runs no job for them again. Raises ValueError if `archive` is none, a file in it
    is not what its checksum says, or the study is there already.
    """
    try:
        with zipfile.ZipFile(archive) as packed, tempfile.TemporaryDirectory(dir=folder) as scratch:
            packed.extractall(scratch)
            results = checked_files(Path(scratch))
            target = Path(folder) / results
            if target.exists():
                raise ValueError(f"{target} is there already; move it away first")
            target.parent.mkdir(exist_ok=True)
            (Path(scratch) / METADATA).rename(Path(scratch) / results / METADATA)
            now = time.time()
            for path in (Path(scratch) / results).rglob("*"):
                os.utime(path, (now, now))
            (Path(scratch) / results).rename(target)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive}: {error}") from error
    return results.name


def checked_files(unpacked: Path) -> Path:
    """Return results/<study> of an unpacked archive. Raises ValueError if a file is damaged."""
    sums = unpacked / CHECKSUMS
    if not sums.is_file() or not (unpacked / METADATA).is_file():
        raise ValueError(f"no archive of a study: it has no {CHECKSUMS} or no {METADATA}")
    listed = dict(reversed(line.split("  ", 1)) for line in sums.read_text().splitlines())
    for name, expected in listed.items():
        if not (unpacked / name).is_file() or sha256_of(unpacked / name) != expected:
            raise ValueError(f"{name} in the archive is damaged: its checksum is not that of {CHECKSUMS}")
    top, study, *_ = Path(next(iter(listed))).parts
    if top != "results" or study == "..":
        raise ValueError(f"no archive of a study: {CHECKSUMS} begins with {top}/{study}")
    return Path(top, study)


def kept_files(results: Path) -> Iterator[Path]:
    """Yield the files of results/<study> that go into the archive, in a fixed order; some twice."""
    for pattern in KEPT:
        yield from (path for path in sorted(results.glob(pattern)) if path.is_file())

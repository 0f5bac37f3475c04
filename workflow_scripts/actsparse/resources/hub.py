"""Snapshots of Hugging Face hub repositories, held to the commit and checksums of the first fetch.

The lock file is JSON: `{"hf://org/name": {"revision": commit, "patterns": [...], "files": {name: sha256}}}`.
Datasets are `hf://datasets/org/name`, as the hub itself writes them; a requested revision is part of the
key. `patterns` are those whose files are all listed, so that a later fetch knows without the hub whether it
has everything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock

from actsparse.jobs.files import read_json, sha256_of, write_json
from actsparse.jobs.retrying import retried
from actsparse.resources.sources import HubRepo


def fetch_snapshot(
    source: HubRepo,
    target_dir: str | Path,
    lock_file: str | Path,
    repo_type: str,
    allow_patterns: list[str],
) -> dict:
    """Bring the files of a hub repository that match `allow_patterns` into `target_dir`.

    Returns `{"revision": commit, "files": {name: sha256}}`. The first fetch resolves the requested revision
    (the repository's default one where none is given) and records the commit and checksums in `lock_file`;
    later fetches take that commit and must find the same checksums. When every locked file is in place, the
    hub is not contacted. Raises ValueError, in one line, when the hub cannot be reached or a file is not
    what it must be; such a file is deleted.
    """
    target_dir, lock_file = Path(target_dir), Path(lock_file)
    key = str(source) if repo_type == "model" else f"hf://{repo_type}s/{str(source).removeprefix('hf://')}"
    with edit_lock(lock_file) as lock:
        entry = lock.get(key)
    locked = matching(entry["files"], allow_patterns) if entry else {}
    # A file that is there but wrong would be taken for a finished download.
    in_place = [delete_unless(target_dir / name, sha256) for name, sha256 in locked.items()]
    if entry and set(allow_patterns) <= set(entry.get("patterns", [])) and all(in_place):
        return {"revision": entry["revision"], "files": locked}

    requested = entry["revision"] if entry else source.revision
    commit, published = download(source.repo, requested, target_dir, repo_type, allow_patterns)
    expected = published | locked
    found = {}
    for name in expected:
        if not (target_dir / name).is_file():
            raise ValueError(f"{key}: {name} is locked in {lock_file}, but commit {commit} does not hold it")
        found[name] = sha256_of(target_dir / name)
        if found[name] != (expected[name] or found[name]):
            (target_dir / name).unlink()
            raise ValueError(
                f"{key}: {name} has SHA-256 {found[name]}, expected {expected[name]}; it was deleted"
            )
    if not found:
        raise ValueError(f"{key}: commit {commit} has no files like {', '.join(allow_patterns)}")
    record(lock_file, key, commit, allow_patterns, found)
    return {"revision": commit, "files": found}


@contextmanager
def edit_lock(lock_file: Path) -> Iterator[dict]:
    """Yield the lock file's content (empty when absent), one process at a time; write it if it changed."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{lock_file}.lock"):
        before = read_json(lock_file) if lock_file.exists() else {}
        lock = {key: dict(entry) for key, entry in before.items()}
        yield lock
        if lock != before:
            write_json(lock_file, dict(sorted(lock.items())))


def record(lock_file: Path, key: str, commit: str, patterns: list[str], files: dict[str, str]) -> None:
    """Add a finished fetch to the lock file. Raises ValueError if another one locked a different state."""
    with edit_lock(lock_file) as lock:
        entry = lock.get(key, {"revision": commit, "patterns": [], "files": {}})
        for name in files:
            if entry["revision"] != commit or entry["files"].get(name, files[name]) != files[name]:
                raise ValueError(
                    f"{key}: {lock_file} was locked to another state of {name} meanwhile; run again"
                )
        lock[key] = {
            "revision": commit,
            "patterns": sorted({*entry.get("patterns", []), *patterns}),
            "files": dict(sorted({**entry["files"], **files}.items())),
        }


def matching(files: dict[str, str], patterns: list[str]) -> dict[str, str]:
    """Keep the files whose name matches one of the patterns, by the hub client's own rule (`fnmatch`)."""
    return {
        name: sha256 for name, sha256 in files.items() if any(fnmatch(name, pattern) for pattern in patterns)
    }


def delete_unless(path: Path, sha256: str) -> bool:
    """Say whether `path` is a file with this SHA-256; delete a file that has another."""
    if not path.is_file():
        return False
    if sha256_of(path) != sha256:
        path.unlink()
        return False
    return True


def download(
    repo: str, revision: str | None, target_dir: Path, repo_type: str, allow_patterns: list[str]
) -> tuple[str, dict[str, str | None]]:
    """Download the matching files; return the commit and each file's SHA-256 where the hub publishes one.

    What fails on the network is tried again. Raises ValueError, in one line, for what the hub client raises
    in the end (network, access, size of a file).
    """
    from huggingface_hub import HfApi, snapshot_download

    def once() -> tuple[str, dict[str, str | None]]:
        info = HfApi().repo_info(repo, revision=revision, repo_type=repo_type, files_metadata=True)
        snapshot_download(
            repo, revision=info.sha, repo_type=repo_type, local_dir=target_dir, allow_patterns=allow_patterns
        )
        return info.sha, {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings}

    try:
        commit, published = retried(once)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"hf://{repo}: cannot be fetched from the hub ({reason})") from error
    return commit, matching(published, allow_patterns)

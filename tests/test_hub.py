"""The hub path, run for real against a small hub on loopback; each fetch is a process of its own."""

import hashlib

import pytest
from actsparse.jobs.files import read_json, write_json
from loopback_hub import loopback_hub

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights" * 500,
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "README.md": b"# A model",
}
WANTED = {
    name: hashlib.sha256(FILES[name]).hexdigest() for name in FILES if name.endswith(("json", "safetensors"))
}


@pytest.fixture
def hub():
    with loopback_hub() as served:
        yield served


@pytest.fixture
def fetch(hub, tmp_path):
    """Fetch `source` into tmp_path/model with tmp_path/hub.lock.json; returns the finished process."""

    def run(source="HubRepo('org/name')", patterns=("*.json", "model*.safetensors"), repo_type="model"):
        folder, lock_file = str(tmp_path / "model"), str(tmp_path / "hub.lock.json")
        return hub.call(
            "from actsparse.resources.hub import fetch_snapshot\n"
            "from actsparse.resources.sources import HubRepo\n"
            f"print(fetch_snapshot({source}, {folder!r}, {lock_file!r}, {repo_type!r}, {list(patterns)}))"
        )

    return run


def error_of(process):
    """The last line of a failed process: the message of its exception."""
    assert process.returncode != 0
    return process.stderr.strip().splitlines()[-1]


def fetched(tmp_path):
    """Names of the downloaded files."""
    return sorted(path.name for path in (tmp_path / "model").iterdir() if path.is_file())


def test_first_fetch_writes_the_lock_and_the_second_asks_nothing(hub, fetch, tmp_path):
    commit = hub.push("models/org/name", FILES)
    first = fetch()
    assert first.returncode == 0, first.stderr
    assert eval(first.stdout) == {"revision": commit, "files": WANTED}
    assert fetched(tmp_path) == sorted(WANTED)
    assert read_json(tmp_path / "hub.lock.json") == {
        "hf://org/name": {"revision": commit, "patterns": ["*.json", "model*.safetensors"], "files": WANTED}
    }
    hub.requests.clear()
    second = fetch()
    assert second.stdout == first.stdout
    assert hub.requests == []


def test_requested_revision_is_part_of_the_key_and_datasets_are_apart(hub, fetch, tmp_path):
    old = hub.push("models/org/name", FILES)
    hub.push("models/org/name", {**FILES, "config.json": b"{}"})
    data = hub.push("datasets/org/name", {"a.json": b"[]"})
    assert eval(fetch(f"HubRepo('org/name', '{old}')").stdout)["revision"] == old
    assert eval(fetch(patterns=["*.json"], repo_type="dataset").stdout)["revision"] == data
    assert list(read_json(tmp_path / "hub.lock.json")) == ["hf://datasets/org/name", f"hf://org/name@{old}"]


def test_later_fetches_take_the_locked_commit(hub, fetch, tmp_path):
    commit = hub.push("models/org/name", FILES)
    assert fetch().returncode == 0
    hub.push("models/org/name", {**FILES, "config.json": b"moved on"})
    (tmp_path / "model" / "config.json").unlink()
    assert eval(fetch().stdout)["revision"] == commit
    assert (tmp_path / "model" / "config.json").read_bytes() == FILES["config.json"]


def test_a_file_damaged_on_disk_is_fetched_again(hub, fetch, tmp_path):
    hub.push("models/org/name", FILES)
    assert fetch().returncode == 0
    (tmp_path / "model" / "model.safetensors").write_bytes(b"junk")
    assert fetch().returncode == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_changed_file_is_refused_and_deleted(hub, fetch, tmp_path, name):
    commit = hub.push("models/org/name", FILES)
    assert fetch().returncode == 0
    lock = (tmp_path / "hub.lock.json").read_bytes()
    hub.commits["models/org/name"][commit][name] = b"something else"
    (tmp_path / "model" / name).unlink()
    found = hashlib.sha256(b"something else").hexdigest()
    assert error_of(fetch()) == (
        f"ValueError: hf://org/name: {name} has SHA-256 {found}, expected {WANTED[name]}; it was deleted"
    )
    assert not (tmp_path / "model" / name).exists()
    assert (tmp_path / "hub.lock.json").read_bytes() == lock


def test_a_truncated_file_is_refused(hub, fetch, tmp_path):
    hub.push("models/org/name", FILES)
    hub.truncated.add("model.safetensors")
    message = error_of(fetch())
    assert message.startswith(
        "ValueError: hf://org/name: cannot be fetched from the hub (Consistency check failed"
    )
    assert "model.safetensors" not in fetched(tmp_path)
    assert not (tmp_path / "hub.lock.json").exists()
    hub.truncated.clear()
    assert eval(fetch().stdout)["files"] == WANTED


def test_new_patterns_are_fetched_from_the_locked_commit(hub, fetch, tmp_path):
    commit = hub.push("models/org/name", FILES)
    assert fetch(patterns=["*.json"]).returncode == 0
    hub.push("models/org/name", {})
    both = eval(fetch(patterns=["*.json", "*.md"]).stdout)
    assert both["revision"] == commit
    assert sorted(both["files"]) == ["README.md", "config.json", "tokenizer.json"]
    hub.requests.clear()
    assert sorted(eval(fetch(patterns=["*.md"]).stdout)["files"]) == ["README.md"]
    assert hub.requests == []


def test_a_locked_file_that_the_commit_lacks(hub, fetch, tmp_path):
    commit = hub.push("models/org/name", FILES)
    entry = {"revision": commit, "patterns": [], "files": {"absent.json": "0" * 64}}
    write_json(tmp_path / "hub.lock.json", {"hf://org/name": entry})
    assert "absent.json is locked in" in error_of(fetch())


@pytest.mark.parametrize("source", ["HubRepo('org/absent')", "HubRepo('org/name', 'absent')"])
def test_absent_repositories_and_revisions_are_one_line(hub, fetch, tmp_path, source):
    hub.push("models/org/name", FILES)
    assert error_of(fetch(source)).startswith("ValueError: hf://org/")
    assert not (tmp_path / "hub.lock.json").exists()


def test_no_matching_file(hub, fetch):
    commit = hub.push("models/org/name", FILES)
    assert error_of(fetch(patterns=["*.gguf"])) == (
        f"ValueError: hf://org/name: commit {commit} has no files like *.gguf"
    )


def test_an_unreachable_hub_is_one_line(hub, fetch):
    hub.endpoint = "http://127.0.0.1:9"
    assert error_of(fetch()).startswith("ValueError: hf://org/name: cannot be fetched from the hub (")

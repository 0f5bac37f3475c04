"""Faults, and that none of them loses or falsifies a result. docs/reliability.md lists these and others."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from actsparse.calibration.histograms import load_histograms
from actsparse.codebooks.codebook import load_codebooks
from actsparse.evaluation.memory import halving_batch
from actsparse.evaluation.record import evaluate
from actsparse.jobs.files import atomic_path, write_json
from actsparse.kinds import KINDS
from actsparse.methods.per_site import load_per_site
from actsparse.methods.thresholds import load_thresholds
from actsparse.models.loading import load_model, load_tokenizer
from actsparse.models.windows import load_windows
from actsparse.resources.models import fetch_model
from safetensors.torch import load_file, save_file
from tiny import tiny_llama
from tiny_study import CONFIG, command, make_study, planned, run

# One experiment by one benchmark: the workflow in seconds.
SMALL = {key: value for key, value in CONFIG.items() if key not in ("zero_shot", "tasks")} | {
    "experiments": {"dense": {}}
}


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    """A finished study of one experiment; tests that damage it put it right again."""
    study = make_study(tmp_path_factory.mktemp("small") / "study", SMALL)
    run(study)
    return study


def perplexities(study: Path) -> list[str]:
    with (study / "results/tiny/tables/results.csv").open() as stream:
        return [row["perplexity"] for row in csv.DictReader(stream)]


# Memory


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The manifest of a tiny model."""
    folder = tmp_path_factory.mktemp("model")
    fetch_model(str(tiny_llama(folder / "model")), folder / "unused", folder / "model.json")
    return folder / "model.json"


def evaluated(model: Path, output: Path, fits: int) -> dict:
    """The record of 8 windows under 2:4, on a device where only batches of `fits` have room."""
    windows = torch.arange(8 * 16).reshape(8, 16) % 500

    def measure(run):
        losses = []
        with run.sparse() as loaded:
            for batch in windows.split(run.batch_size):
                logits = loaded(input_ids=batch).logits
                if len(batch) > fits:
                    raise out_of_memory()
                losses.extend(logits.float().logsumexp(-1).mean(-1).tolist())
        return {"value": losses}

    kind = KINDS["prune_activations"].of({"pattern": 0.3, "projections": ["down_proj"]})
    evaluate(
        measure, kind.build, model=model, dtype="float32", trust_remote_code=False, device="cpu", about={},
        options={"batch_size": 8}, first_windows=None, files={}, scheme_files={}, output=output,
    )  # fmt: skip
    return json.loads(output.read_text())


def test_out_of_memory_halves_the_batch_and_the_result_is_equal(model, tmp_path):
    whole, halved = evaluated(model, tmp_path / "a.json", 8), evaluated(model, tmp_path / "b.json", 2)
    assert (whole["batch_size"], halved["batch_size"]) == (8, 2)
    assert halved["value"] == pytest.approx(whole["value"], rel=1e-5)
    for key in ("realised_sparsity", "realised_sparsity_per_site", "replaced_linear_layers"):
        assert halved[key] == whole[key]


def test_out_of_memory_with_one_sequence_says_what_helps(model, tmp_path):
    with pytest.raises(MemoryError, match="one sequence at a time; use a larger device, several"):
        evaluated(model, tmp_path / "a.json", 0)
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    "message", ["DefaultCPUAllocator: can't allocate memory: you tried", "MPS backend out of memory"]
)
def test_other_devices_run_out_of_memory_too(message):
    def attempt(batch_size):
        if batch_size > 1:
            raise RuntimeError(message)
        return "done"

    assert halving_batch(attempt, 4) == ("done", 1)


def test_other_errors_are_not_taken_for_memory():
    def attempt(batch_size):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        halving_batch(attempt, 4)


# Disk


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def write_tensors(target: Path, count: int) -> None:
    with atomic_path(target) as temporary:
        save_file({"x": torch.zeros(count)}, temporary)


@pytest.mark.parametrize(
    "write",
    [
        lambda target: write_json(target, "x" * 2**21),
        lambda target: write_tensors(target, 2**20),
    ],
    ids=["json", "safetensors"],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tiny_disk, write):
    (tiny_disk / "result").write_text("old")
    with pytest.raises(Exception, match=r"(?i)no space left on device"):
        write(tiny_disk / "result")
    assert [path.name for path in tiny_disk.iterdir()] == ["result"]
    assert (tiny_disk / "result").read_text() == "old"


def test_on_a_full_disk_a_job_fails_and_with_room_the_next_run_ends(tiny_disk):
    study = make_study(tiny_disk.parent / "study", SMALL)
    (study / "results").symlink_to(tiny_disk)
    with (
        pytest.raises(OSError, match="No space left"),
        (tiny_disk / "filler").open("wb", buffering=0) as filler,
    ):
        while True:
            filler.write(bytes(4096))
    windows = "results/tiny/windows/llama/calibration.safetensors"
    assert run(study, windows, check=False).returncode == 1
    assert not (study / windows).exists()
    (tiny_disk / "filler").unlink()
    run(study, windows)
    assert load_windows(study / windows)[0].shape == (8, 64)


# Damaged files

READERS = [
    ("windows/llama/calibration.safetensors", load_windows),
    ("histograms/llama.safetensors", load_histograms),
    ("histograms/llama.safetensors", load_per_site),
    ("thresholds/llama/0.5.json", load_thresholds),
    ("codebooks/llama/*.safetensors", load_codebooks),
]


@pytest.mark.parametrize("damage", ["cut", "empty", "junk"])
@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_damaged_file_is_refused_by_name(finished_study, tmp_path, name, read, damage):
    path = next((finished_study[0] / "results/tiny").glob(name))
    whole = path.read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "empty": b"", "junk": b"{" * len(whole)}[damage]
    (tmp_path / path.name).write_bytes(damaged)
    with pytest.raises(ValueError, match=str(tmp_path / path.name)):
        read(tmp_path / path.name)


def test_a_cut_result_is_refused_by_name_and_made_again_on_request(small_study):
    expected = perplexities(small_study)
    result = small_study / "results/tiny/evaluations/llama/dense/perplexity.json"
    result.write_text(result.read_text()[:100])
    done = run(small_study, check=False)
    assert done.returncode != 0
    assert "dense/perplexity.json: not valid JSON" in done.stdout
    result.unlink()
    run(small_study)
    assert perplexities(small_study) == expected


@pytest.mark.parametrize(
    ("source", "first"), [("facts.jsonl", "fetch_corpus"), ("model/config.json", "fetch_model")]
)
def test_a_changed_input_remakes_what_was_made_of_it(small_study, source, first):
    path = small_study / source
    before, content = path.stat(), path.read_text()
    path.write_text(content + "\n")
    try:
        assert planned(small_study) >= {first, "make_windows", "evaluate", "collate_tables"}
    finally:
        path.write_text(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert planned(small_study) == set()


# Processes, network, numbers


def test_a_killed_job_is_named_and_the_next_run_ends(tmp_path, small_study):
    study = shutil.copytree(small_study, tmp_path / "study")
    result = study / "results/tiny/evaluations/llama/dense/perplexity.json"
    result.unlink()
    table = "results/tiny/tables/results.csv"
    (study / table).unlink()
    process = subprocess.Popen(
        command(study, table),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    killed = []
    while process.poll() is None and not killed:
        killed = evaluating(study)
        for identifier in killed:
            os.kill(identifier, signal.SIGKILL)
        time.sleep(0.02)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Error in rule evaluate" in printed
    assert not result.exists()
    run(study, table)
    assert perplexities(study) == perplexities(small_study)


def evaluating(study: Path) -> list[int]:
    """The ids of the processes that evaluate in a study's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, inside = (process / "cmdline").read_bytes(), (process / "cwd").resolve() == study
        except OSError:  # it has ended
            continue
        if inside and b"evaluate.py" in words and b"snakemake" not in words.split(b"\0")[1:3]:
            found.append(int(process.name))
    return found


def test_a_study_of_local_files_runs_without_any_network(tmp_path, small_study):
    if os.geteuid() != 0:
        pytest.skip("taking away the network needs root")
    study = make_study(tmp_path / "study", SMALL)
    done = subprocess.run(["unshare", "--net", *command(study)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert perplexities(study) == perplexities(small_study)


def test_a_perplexity_that_is_not_a_number_is_reported_and_the_run_goes_on(tmp_path):
    study = make_study(tmp_path / "study", SMALL)
    weights = load_file(study / "model/model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, study / "model/model.safetensors", {"format": "pt"})
    run(study)
    assert perplexities(study) == ["nan"]
    record = json.loads((study / "results/tiny/evaluations/llama/dense/perplexity.json").read_text())
    assert record["value"] is None and record["nll_per_window"] == [None, None]


# Hostile models


def test_code_of_a_model_is_not_run_when_it_is_loaded(model, tmp_path):
    """The classes that transformers knows are taken, though the folder names its own."""
    folder = tiny_llama(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w')\n")
    fetch_model(str(folder), tmp_path / "unused", tmp_path / "model.json")
    load_model(tmp_path / "model.json", "float32", torch.device("cpu"))
    load_tokenizer(tmp_path / "model.json")
    assert not (tmp_path / "was here").exists()


def test_pickled_weights_beside_safetensors_are_not_read(tmp_path):
    folder = tiny_llama(tmp_path / "model")

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was here",))

    torch.save(Evil(), folder / "pytorch_model.bin")
    fetch_model(str(folder), tmp_path / "unused", tmp_path / "model.json")
    load_model(tmp_path / "model.json", "float32", torch.device("cpu"))
    assert not (tmp_path / "was here").exists()

"""GPU leases, with real processes and pretended devices."""

import ast
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from actsparse.jobs.leases import leased_devices, visible_devices
from tiny_study import ROOT

JOBS = 40

# Marks each device that it holds with a file; those of a killed job stay, and the test passes over them.
JOB = """
import os, sys, time
from pathlib import Path
from actsparse.jobs.leases import leased_devices

folder, marks, count, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
with leased_devices(count, int(sys.argv[5]), folder) as devices:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(devices) and len(set(devices)) == count
    assert "torch" not in sys.modules
    for device in devices:
        (marks / f"{device.replace('/', '_')}.{os.getpid()}").touch()
    print("holds", ",".join(devices), flush=True)
    time.sleep(seconds)
    for mark in marks.glob(f"*.{os.getpid()}"):
        mark.unlink()
"""


@pytest.fixture
def start(tmp_path):
    """Start a job that leases devices and holds them; none outlives the test."""
    started = []
    (tmp_path / "marks").mkdir()

    def start(count=1, seconds=60.0, jobs_per_gpu=1, visible="0,1,2,3,4,5,6,7", **environment):
        folders = [str(tmp_path / "leases"), str(tmp_path / "marks")]
        process = subprocess.Popen(
            [sys.executable, "-c", JOB, *folders, str(count), str(seconds), str(jobs_per_gpu)],
            env=os.environ
            | {"CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": str(ROOT / "workflow_scripts")}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def first_word(process):
    return process.stdout.readline().split(" ")[0].strip()


def held(process):
    """The devices that a job says it holds, once it has them."""
    for line in process.stdout:
        if line.startswith("holds"):
            return line.split()[1].split(",")
    raise AssertionError("the job ended without a lease")


@pytest.mark.parametrize(("count", "jobs_per_gpu"), [(1, 1), (1, 2), (2, 1)])
def test_forty_jobs_killed_at_random_never_share_a_device(start, tmp_path, count, jobs_per_gpu):
    """Seen from outside: of the living jobs' marks, never more than `jobs_per_gpu` are on one device."""
    draw = random.Random(0)
    jobs = [start(count, draw.uniform(0.05, 0.4), jobs_per_gpu) for _ in range(JOBS)]
    killed, most = set(), 0
    deadline = time.monotonic() + 60
    while any(job.poll() is None for job in jobs):
        assert time.monotonic() < deadline, "jobs wait for ever"
        # A mark counts if its job lives before and after the marks are read, and if it is there twice.
        alive = {str(job.pid) for job in jobs if job.poll() is None}
        first = {path.name for path in (tmp_path / "marks").iterdir()}
        both = first & {path.name for path in (tmp_path / "marks").iterdir()}
        alive &= {str(job.pid) for job in jobs if job.poll() is None}
        devices = [name.split(".")[0] for name in both if name.split(".")[1] in alive]
        busiest = max(map(devices.count, devices), default=0)
        most = max(most, busiest)
        assert busiest <= jobs_per_gpu
        if len(killed) < JOBS // 4 and devices and draw.random() < 0.3:
            victim = draw.choice([job for job in jobs if job.poll() is None] or jobs)
            if victim.poll() is None:
                victim.kill()
                killed.add(victim.pid)
        time.sleep(0.01)
    assert killed and most == jobs_per_gpu
    for job in jobs:
        assert job.returncode in (0, -signal.SIGKILL), job.stdout.read()
        assert job.returncode == 0 or job.pid in killed


def test_a_dead_holders_lease_is_free_at_once(start):
    first = start(visible="5")
    assert held(first) == ["5"]
    second = start(visible="5")
    assert first_word(second) == "waiting"
    first.kill()
    first.wait()
    killed = time.monotonic()
    assert held(second) == ["5"]
    assert time.monotonic() - killed < 2


def test_lock_files_left_behind_mean_nothing(start, tmp_path):
    (tmp_path / "leases").mkdir()
    for name in ("machine.choosing", "machine.gpu-0.0"):
        (tmp_path / "leases" / name).write_text("999999")
    assert held(start(visible="0")) == ["0"]


def test_jobs_that_share_spread_over_the_devices_first(start):
    for _ in range(2):
        jobs = [start(jobs_per_gpu=2, visible="0,1") for _ in range(2)]
        assert sorted(held(jobs[0]) + held(jobs[1])) == ["0", "1"]
    assert first_word(start(jobs_per_gpu=2, visible="0,1")) == "waiting"


def test_choice_stays_inside_what_a_scheduler_gave(start):
    assert {held(start(visible="3,6"))[0], held(start(visible="3,6"))[0]} == {"3", "6"}


def test_names_of_devices_are_kept(start):
    assert held(start(visible="MIG-GPU-5c89/1/0")) == ["MIG-GPU-5c89/1/0"]


def test_numbers_of_different_slurm_jobs_are_different_devices(start):
    assert held(start(visible="0", SLURM_JOB_ID="7")) == ["0"]
    assert held(start(visible="0", SLURM_JOB_ID="8")) == ["0"]
    assert first_word(start(visible="0", SLURM_JOB_ID="8")) == "waiting"


def test_a_cpu_job_takes_none_and_sees_none(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with leased_devices(0, 1, tmp_path / "leases") as devices:
        assert devices == [] and os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert not (tmp_path / "leases").exists()


def test_without_a_gpu_a_job_goes_on(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with leased_devices(1, 1, tmp_path / "leases") as devices:
        assert devices == []
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_too_few_devices_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ValueError, match=r"needs 2 GPUs \(gpus_per_job\), but only 1"), leased_devices(2):
        pass


def test_devices_are_those_that_nvidia_smi_lists(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A100 (UUID: GPU-a)'\necho 'GPU 1: A100 (UUID: GPU-b)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices() == ["0", "1"]


def gpu_scripts():
    """The scripts of the rules that ask for a GPU."""
    rules = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    blocks = re.split(r"^rule ", rules, flags=re.MULTILINE)[1:]
    return sorted(re.search(r"workflow_scripts/(\w+\.py)", block)[1] for block in blocks if "gpu=" in block)


def test_some_rules_ask_for_a_gpu():
    assert {"evaluate.py", "fit_codebook.py", "measure_histograms.py"} <= set(gpu_scripts())


@pytest.mark.parametrize("script", gpu_scripts())
def test_a_gpu_job_takes_its_lease_before_torch_is_imported(script):
    path = ROOT / "workflow_scripts" / script
    last = ast.parse(path.read_text()).body[-1]
    assert isinstance(last, ast.If)
    assert isinstance(last.body[0], ast.With)
    assert ast.unparse(last.body[0].items[0]) == "gpu_job(snakemake)"
    imported = "import runpy, sys; runpy.run_path(sys.argv[1]); assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": str(Path(path).parent)}
    subprocess.run([sys.executable, "-c", imported, str(path)], check=True, env=environment, timeout=60)

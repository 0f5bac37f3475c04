"""A study through profiles/slurm on a real SLURM, with a cancelled job and one that overruns its time."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import Cluster, missing
from tiny_study import CONFIG, ROOT, make_study

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

# Of the tiny study, one experiment per kind of job: each costs three starts of Snakemake on this machine.
EXPERIMENTS = {
    "dense": {},
    "threshold": CONFIG["experiments"]["threshold"],
    "codebook": CONFIG["experiments"]["codebook"] | {"scope": ["pooled"]},
    "act": CONFIG["experiments"]["act"] | {"pattern": [0.5]},
}
STUDY = {key: value for key, value in CONFIG.items() if key not in ("zero_shot", "tasks")} | {
    "experiments": EXPERIMENTS
}
GPU_RULES = ("measure_histograms", "extract_patterns", "fit_codebook", "evaluate")
TIMED = re.compile("runtime|memory")


class Watch:
    """The cluster's jobs as they were seen while the study ran."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.limits: dict[str, dict[str, str]] = {}  # rule and wildcards -> job id -> time limit
        self.devices: dict[str, set[str]] = {}  # job id -> devices, as SLURM counts them
        self.most_at_once = 0

    def look(self) -> dict[str, str]:
        """Return the ids of the running jobs by rule and wildcards; check that none shares a device."""
        running, used = {}, []
        for text in self.cluster.call("scontrol", "--details", "--oneliner", "show", "jobs").splitlines():
            job = dict(word.split("=", 1) for word in text.split() if "=" in word)
            if "Comment" not in job:  # "No jobs in the system"
                continue
            name = job["Comment"]
            self.limits.setdefault(name, {})[job["JobId"]] = job["TimeLimit"]
            if job["JobState"] == "RUNNING":
                running[name] = job["JobId"]
                devices = set(re.findall(r"gpu[^(]*:1\(IDX:(\d)\)", text))
                self.devices.setdefault(job["JobId"], set()).update(devices)
                used.extend(devices)
        assert len(used) == len(set(used)), f"two running jobs have the same device: {used}"
        self.most_at_once = max(self.most_at_once, len(used))
        return running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def submitted(cluster, tmp_path_factory):
    """The study, run through SLURM; what was printed; and what was seen meanwhile.

    The first evaluation that runs is cancelled. The job that cuts the perplexity windows is stopped, with its
    time limit lowered to a minute, SLURM's least.
    """
    study = make_study(tmp_path_factory.mktemp("submitted") / "study", STUDY)
    output = study / "printed.txt"
    process = subprocess.Popen(
        submission(study),
        stdout=output.open("w"),
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    watch, hung, cancelled = Watch(cluster), None, None
    deadline = time.monotonic() + 600
    try:
        while process.poll() is None:
            assert time.monotonic() < deadline, output.read_text()[-3000:]
            for name, job in watch.look().items():
                if hung is None and "make_windows" in name and "perplexity" in name and stop(job):
                    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
                    hung = job
                if cancelled is None and "evaluate" in name:
                    cluster.call("scancel", job)
                    cancelled = job
            time.sleep(0.3)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return study, output.read_text(), watch, hung, cancelled


def submission(study: Path) -> list[str]:
    """The call a user makes, with what this cluster and a short test need: no accounts, one thread, haste."""
    return [
        sys.executable, "-m", "snakemake",
        f"--snakefile={ROOT / 'Snakefile'}", f"--directory={study}", f"--configfile={study / 'config.yaml'}",
        f"--workflow-profile={ROOT / 'profiles/slurm'}",
        "--slurm-no-account", "--slurm-init-seconds-before-status-checks=2", "--latency-wait=5",
        "--set-threads", *(f"{rule}=1" for rule in GPU_RULES),
    ]  # fmt: skip


def stop(job: str) -> bool:
    """Stop the processes of a job's script, once there are some."""
    stopped = False
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            script = b"make_windows.py" in (folder / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if script and f"SLURM_JOB_ID={job}".encode() in environment:
            os.kill(int(folder.name), signal.SIGSTOP)
            stopped = True
    return stopped


def rows(study: Path) -> dict[str, dict[str, str]]:
    with (study / "results/tiny/tables/results.csv").open() as stream:
        return {
            row["experiment"]: {key: value for key, value in row.items() if not TIMED.search(key)}
            for row in csv.DictReader(stream)
        }


def test_the_study_ends_with_the_tables_of_a_local_run(submitted, finished_study):
    study, printed, *_ = submitted
    assert (study / "results/tiny/tables/results.csv").is_file(), printed[-6000:]
    local = rows(finished_study[0])
    found = rows(study)
    assert list(found) == ["dense", "threshold", "codebook-pooled", "act-0.5"]
    for experiment, row in found.items():
        assert row == {key: local[experiment][key] for key in row}


def test_each_gpu_job_has_one_device_of_its_own(submitted):
    study, _, watch, *_ = submitted
    names = {job: name for name, jobs in watch.limits.items() for job in jobs}
    with_gpu = {job for job, name in names.items() if any(rule in name for rule in GPU_RULES)}
    for job, devices in watch.devices.items():
        assert len(devices) == (1 if job in with_gpu else 0), names[job]
    assert watch.most_at_once == 2
    logs = [
        path.read_text() for rule in GPU_RULES for path in study.glob(f"results/tiny/logs/{rule}*/**/*.log")
    ]
    assert len(logs) == 3 + len(EXPERIMENTS)
    assert all(re.search(r"^GPUs of this job: [01]$", log, re.MULTILINE) for log in logs)


def test_a_cancelled_job_is_submitted_again(submitted):
    _, printed, watch, _, cancelled = submitted
    [jobs] = [jobs for jobs in watch.limits.values() if cancelled in jobs]
    assert len(jobs) == 2
    assert f"'{cancelled}' failed, SLURM status is: 'CANCELLED'" in printed


def test_a_job_over_its_time_limit_says_so_and_gets_more_time(submitted):
    _, printed, watch, hung, _ = submitted
    [jobs] = [jobs for jobs in watch.limits.values() if hung in jobs]
    assert [jobs[job] for job in sorted(jobs, key=int)] == ["00:01:00", "01:00:00"]
    assert f"'{hung}' failed, SLURM status is: 'TIMEOUT'" in printed


def test_jobs_that_fetch_or_collate_run_on_the_submit_host(submitted):
    _, _, watch, *_ = submitted
    assert not any(word in name for name in watch.limits for word in ("fetch", "collate", "thresholds"))

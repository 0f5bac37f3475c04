"""Leases on GPUs: which of a machine's devices a job may use, until it ends.

Snakemake counts the GPUs of a machine but hands none out. A job that takes a lease sees its own devices only.
A lease is a lock on a file (flock), so the kernel ends it with its holder, however that one dies, and a file
that is left behind means nothing. This module must not import torch: what CUDA sees is fixed once it is used.
"""

import fcntl
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

# One folder for all users and studies of a machine; TMPDIR may differ from job to job.
FOLDER = Path("/tmp/actsparse-leases")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    If that variable is set (by a scheduler or the user), it is the answer; else all that nvidia-smi lists.
    """
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


@contextmanager
def leased_devices(count: int, jobs_per_gpu: int = 1, folder: Path = FOLDER) -> Iterator[list[str]]:
    """Wait for `count` free GPUs, and make them the only visible ones inside the `with` block.

    At most `jobs_per_gpu` jobs hold the same GPU. Where `count` is 0 or no GPU is visible, nothing is taken
    and [] is returned; the job then computes on the CPU. Raises ValueError when some GPUs are visible, but
    fewer than `count`.
    """
    devices = visible_devices() if count else []
    if 0 < len(devices) < count:
        raise ValueError(f"the job needs {count} GPUs (gpus_per_job), but only {len(devices)} are visible")
    before = os.environ.get(VISIBLE)
    with ExitStack() as held:
        leased = _wait_for(devices, count, jobs_per_gpu, folder, held) if devices else []
        os.environ[VISIBLE] = ",".join(leased)
        print(f"GPUs of this job: {', '.join(leased) or 'none'}", flush=True)
        try:
            yield leased
        finally:
            os.environ.pop(VISIBLE)
            if before is not None:
                os.environ[VISIBLE] = before


def _wait_for(devices: list[str], count: int, jobs_per_gpu: int, folder: Path, held: ExitStack) -> list[str]:
    """Lock `count` of the devices until `held` is closed, as soon as so many are free at once."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)  # as /tmp: other users' jobs take their leases here, too
    # SLURM may count the devices of each of its jobs from 0, so their numbers mean nothing outside the job.
    scope = f"slurm-{os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else "machine"
    told = False
    while True:
        # One job chooses at a time; otherwise two that need several devices could each hold half of them.
        with _locked(folder / f"{scope}.choosing", wait=True):
            chosen = _choose(devices, count, jobs_per_gpu, folder / scope)
        if chosen is not None:
            for lock in chosen.values():
                held.enter_context(lock)
            return list(chosen)
        if not told:
            print(f"waiting for {count} of the GPUs {', '.join(devices)} to become free", flush=True)
            told = True
        time.sleep(random.uniform(0.1, 0.3))


def _choose(devices: list[str], count: int, jobs_per_gpu: int, prefix: Path) -> dict[str, IO] | None:
    """Return the locks of `count` devices, the least used ones first; None when fewer are free."""
    chosen: dict[str, IO] = {}
    for place in range(jobs_per_gpu):
        for device in devices:
            if device not in chosen and len(chosen) < count:
                lock = _locked(Path(f"{prefix}.gpu-{device.replace('/', '_')}.{place}"), wait=False)
                if lock is not None:
                    chosen[device] = lock
    if len(chosen) == count:
        return chosen
    for lock in chosen.values():
        lock.close()
    return None


def _locked(path: Path, wait: bool) -> IO | None:
    """Return the open file at `path`, locked until it is closed; None when another process has it."""
    # Opened for reading, which flock is content with: the file may be another user's.
    lock = path.open() if path.exists() else os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT, 0o644))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock

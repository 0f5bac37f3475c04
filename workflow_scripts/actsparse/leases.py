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

# One folder for all users and studies of a machine; TMPDIR may differ from job to job.
FOLDER = Path("/tmp/actsparse-leases")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_devices() -> list[str]:
    """Return the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them.

    A variable set before (by a scheduler or the user) is taken as it is, else every GPU that nvidia-smi lists.
    """
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


@contextmanager
def leased_devices(count: int, jobs_per_gpu: int = 1, folder: Path = FOLDER) -> Iterator[list[str]]:
    """Wait for `count` free GPUs, make them the only visible ones, and hold them inside the `with` block.

    At most `jobs_per_gpu` jobs hold the same GPU. Where no GPU is visible, or `count` is 0, nothing is taken,
    no GPU is visible, and [] is returned. Raises ValueError when fewer than `count` are visible.
    """
    devices = visible_devices() if count else []
    if devices and len(devices) < count:
        raise ValueError(f"the job needs {count} GPUs, but sees {len(devices)} (see gpus_per_job)")
    # Numbers under SLURM may count the devices of that job only: 0 is another device in the next job.
    scope = "job-" + os.environ["SLURM_JOB_ID"] if "SLURM_JOB_ID" in os.environ else "machine"
    with ExitStack() as held:
        leased = _wait_for(devices, count, jobs_per_gpu, _shared_folder(folder) / scope, held) if devices else []
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(leased)
        try:
            yield leased
        finally:
            os.environ.pop(VISIBLE)
            if before is not None:
                os.environ[VISIBLE] = before


def _wait_for(devices: list[str], count: int, jobs_per_gpu: int, prefix: Path, held: ExitStack) -> list[str]:
    waiting = False
    while True:
        # One job chooses at a time, so that two that need several devices cannot each hold half of them.
        with ExitStack() as choice:
            _lock(Path(f"{prefix}.choosing"), choice, wait=True)
            taken = _take(devices, count, jobs_per_gpu, prefix, choice)
            if len(taken) == count:
                held.enter_context(choice.pop_all())
                _unlock_choosing(held)
                return taken
        if not waiting:
            print(f"waiting for {count} of the GPUs {', '.join(devices)}", flush=True)
            waiting = True
        time.sleep(random.uniform(0.2, 0.6))

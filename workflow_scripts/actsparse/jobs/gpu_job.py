"""What wraps a job that computes. No torch here: its import must wait until the job has its GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actsparse.jobs.leases import leased_devices
from actsparse.jobs.logs import log_to


@contextmanager
def gpu_job(job: Any) -> Iterator[None]:
    """Hold the GPUs that a job (Snakemake's `snakemake` object) asks for, its words going into its log."""
    with log_to(job.log[0]), leased_devices(job.resources.gpu, job.resources.jobs_per_gpu):
        yield

"""What the dense model answers to the items of tasks."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job


def answer_items(
    model: Path,
    tasks: list[Path],
    output: Path,
    *,
    options: dict[str, Any],
    threads: int,
    dtype: str,
    trust_remote_code: bool,
    device: str,
) -> None:
    """Write the log-likelihood of each choice, and which items are right, to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.evaluation.flips import answer
    from actsparse.evaluation.memory import halving_batch
    from actsparse.jobs.devices import pick_device, use_threads
    from actsparse.jobs.files import write_json
    from actsparse.models.loading import load_model, load_tokenizer

    use_threads(threads)
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokenizer = load_tokenizer(model, trust_remote_code)

    def attempt(batch_size: int) -> dict[str, list[dict[str, Any]]]:
        folders = [Path(folder) for folder in tasks]
        return answer(loaded, tokenizer, folders, **options | {"batch_size": batch_size})

    answers, _ = halving_batch(attempt, options["batch_size"])
    write_json(output, answers)


if "snakemake" in globals():
    with gpu_job(snakemake):
        answer_items(
            snakemake.input.model,
            list(snakemake.input.tasks),
            snakemake.output[0],
            options=snakemake.params.options,
            threads=snakemake.threads,
            **snakemake.params.loading,
        )

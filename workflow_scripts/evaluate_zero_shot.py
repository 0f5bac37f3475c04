"""Zero-shot accuracies of one experiment on one model."""

from pathlib import Path

from actsparse.jobs.gpu_job import gpu_job

if "snakemake" in globals():
    with gpu_job(snakemake):
        # Imported here, because torch must not be before the job has its GPU.
        from actsparse.evaluation.record import evaluate
        from actsparse.evaluation.zero_shot import measure_zero_shot
        from actsparse.jobs.devices import use_threads
        from actsparse.models.loading import load_tokenizer

        use_threads(snakemake.threads)
        tasks = [Path(folder) for folder in snakemake.input.tasks]
        experiment = snakemake.params.experiment
        tokenizer = load_tokenizer(snakemake.input.model, experiment["trust_remote_code"])
        options = dict(snakemake.params.zero_shot)
        batch_size = options.pop("batch_size")
        evaluate(
            "zero_shot",
            lambda model, size: measure_zero_shot(model, tokenizer, tasks, batch_size=size, **options),
            batch_size=batch_size,
            model=snakemake.input.model,
            data={folder.name: folder / "task.json" for folder in tasks},
            scheme_files={name: snakemake.input[name] for name in snakemake.params.scheme_files},
            output=snakemake.output[0],
            **experiment,
        )

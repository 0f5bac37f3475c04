"""Perplexity of one experiment on one model."""

from actsparse.jobs.gpu_job import gpu_job

if "snakemake" in globals():
    with gpu_job(snakemake):
        # Imported here, because torch must not be before the job has its GPU.
        from actsparse.evaluation.perplexity import measure_perplexity
        from actsparse.evaluation.record import evaluate
        from actsparse.jobs.devices import use_threads
        from actsparse.models.windows import load_windows

        use_threads(snakemake.threads)
        windows, _ = load_windows(snakemake.input.windows)
        evaluate(
            "perplexity",
            lambda model, _: measure_perplexity(model, windows[: snakemake.params.windows]),
            model=snakemake.input.model,
            data={"windows": snakemake.input.windows},
            scheme_files={name: snakemake.input[name] for name in snakemake.params.scheme_files},
            output=snakemake.output[0],
            **snakemake.params.experiment,
        )

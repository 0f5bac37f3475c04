"""One experiment on one model, measured by one benchmark."""

from actsparse.jobs.gpu_job import gpu_job

if "snakemake" in globals():
    with gpu_job(snakemake):
        # Imported here, because torch must not be before the job has its GPU.
        from actsparse.evaluation.record import evaluate
        from actsparse.jobs.devices import use_threads
        from actsparse.registry import load

        use_threads(snakemake.threads)
        scheme, measure = snakemake.params.scheme, snakemake.params.measure
        scheme_files = {name: snakemake.input[name] for name in snakemake.params.scheme_files}
        kind = load(scheme["kind"])(scheme["params"])
        evaluate(
            load(measure["benchmark"])().measure,
            lambda: kind.build(**scheme_files),
            about={
                "benchmark": snakemake.wildcards.benchmark,
                "model": snakemake.wildcards.model,
                "experiment": snakemake.wildcards.experiment,
                "method": kind.word,
                "params": kind.params,
            },
            model=snakemake.input.model,
            options=measure["options"],
            first_windows=snakemake.params.first_windows,
            files={name: snakemake.input[name] for name in snakemake.params.files},
            scheme_files=scheme_files,
            output=snakemake.output[0],
            **snakemake.params.loading,
        )

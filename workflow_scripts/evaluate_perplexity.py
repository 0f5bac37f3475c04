"""Perplexity of one experiment on one model."""

from actsparse.leases import leased_devices
from actsparse.logs import log_to

if "snakemake" in globals():
    gpus = leased_devices(snakemake.resources.gpu, snakemake.resources.jobs_per_gpu)
    with log_to(snakemake.log[0]), gpus:
        # Imported here, because torch must not be before the job has its GPU.
        from actsparse.devices import use_threads
        from actsparse.evaluation.perplexity import measure_perplexity
        from actsparse.evaluation.record import evaluate
        from actsparse.windows import load_windows

        use_threads(snakemake.threads)
        windows, _ = load_windows(snakemake.input.windows)
        evaluate(
            "perplexity",
            lambda model, _: measure_perplexity(model, windows),
            model=snakemake.input.model,
            data={"windows": snakemake.input.windows},
            scheme_files={name: snakemake.input[name] for name in snakemake.params.scheme_files},
            output=snakemake.output[0],
            **snakemake.params.experiment,
        )

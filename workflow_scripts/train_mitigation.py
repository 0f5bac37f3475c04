"""Parameters of a trained mitigation, for one experiment on one model."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job


def train_mitigation(
    model: Path,
    windows: Path,
    kind: str,
    params: dict[str, Any],
    training: dict[str, Any],
    scheme_files: dict[str, Path],
    output: Path,
    report: Path,
    **opening: Any,
) -> None:
    """Write the trained parameters to `output`, and each site's error before and after to `report`."""
    # Imported here, because torch must not be before the job has its GPU.
    from dataclasses import asdict

    from actsparse.calibration.training import Recipe, train
    from actsparse.jobs.files import write_json
    from actsparse.methods.per_site import save_per_site
    from actsparse.models.opening import open_model_and_windows
    from actsparse.registry import load

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    held_out = training.pop("validation_sequences")
    scheme = load(kind)(params).build(**scheme_files)
    trained = train(loaded, scheme, tokens[:-held_out], tokens[-held_out:], Recipe(**training))
    save_per_site(trained.parameters, output)
    write_json(report, [asdict(site) for site in trained.progress])


if "snakemake" in globals():
    with gpu_job(snakemake):
        train_mitigation(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.scheme["kind"],
            snakemake.params.scheme["params"],
            snakemake.params.training,
            {name: snakemake.input[name] for name in snakemake.params.scheme_files},
            snakemake.output.parameters,
            snakemake.output.report,
            threads=snakemake.threads,
            **snakemake.params.loading,
        )

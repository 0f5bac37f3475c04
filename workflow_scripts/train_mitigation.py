"""Parameters of a trained mitigation, for one experiment on one model."""

from pathlib import Path
from typing import Any

from actsparse.leases import leased_devices
from actsparse.logs import log_to


def train_mitigation(
    model: Path,
    windows: Path,
    method: str,
    params: dict[str, Any],
    training: dict[str, Any],
    scheme_files: dict[str, Path],
    output: Path,
    report: Path,
    *,
    dtype: str,
    trust_remote_code: bool,
    device: str,
    threads: int,
) -> None:
    """Write the trained parameters to `output`, and each site's error before and after to `report`."""
    # Imported here, because torch must not be before the job has its GPU.
    from dataclasses import asdict

    from actsparse.devices import pick_device, use_threads
    from actsparse.files import write_json
    from actsparse.models import load_model
    from actsparse.per_site import save_per_site
    from actsparse.schemes import build_scheme
    from actsparse.training import Recipe, train
    from actsparse.windows import load_windows

    use_threads(threads)
    loaded = load_model(model, dtype, pick_device(device), trust_remote_code)
    tokens, _ = load_windows(windows)
    held_out = training.pop("validation_sequences")
    scheme = build_scheme(method, params, **scheme_files)
    trained = train(loaded, scheme, tokens[:-held_out], tokens[-held_out:], Recipe(**training))
    save_per_site(trained.parameters, output)
    write_json(report, [asdict(site) for site in trained.progress])


if "snakemake" in globals():
    gpus = leased_devices(snakemake.resources.gpu, snakemake.resources.jobs_per_gpu)
    with log_to(snakemake.log[0]), gpus:
        train_mitigation(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.params.method,
            snakemake.params.params,
            snakemake.params.training,
            {name: snakemake.input[name] for name in snakemake.params.scheme_files},
            snakemake.output.parameters,
            snakemake.output.report,
            threads=snakemake.threads,
            **snakemake.params.loading,
        )

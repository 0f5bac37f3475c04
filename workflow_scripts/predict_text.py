"""What the dense model predicts on the windows of a text."""

from pathlib import Path
from typing import Any

from actsparse.jobs.gpu_job import gpu_job


def predict_text(model: Path, windows: Path, output: Path, **opening: Any) -> None:
    """Write the first tokens, their log-probabilities and the mass of the rest to `output`."""
    # Imported here, because torch must not be before the job has its GPU.
    from actsparse.evaluation.predictions import predict, save_predictions
    from actsparse.models.opening import open_model_and_windows

    loaded, tokens = open_model_and_windows(model, windows, **opening)
    save_predictions(output, predict(loaded, tokens))
    print(f"{output}: {Path(output).stat().st_size / 2**20:.1f} MB for {tokens.numel()} tokens")


if "snakemake" in globals():
    with gpu_job(snakemake):
        predict_text(
            snakemake.input.model,
            snakemake.input.windows,
            snakemake.output[0],
            threads=snakemake.threads,
            **snakemake.params.loading,
        )

"""How often neurons are active: quantiles over the neurons of each layer, from a pattern store's counts."""

from pathlib import Path

import numpy as np
from actsparse.jobs.files import read_json, write_json
from actsparse.jobs.logs import log_to
from safetensors.numpy import load_file

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def summarise(store: Path, output: Path) -> None:
    """Write {"tokens", "quantiles", "projections": {projection: [[one value per quantile] per layer]}}.

    A value is the part of the tokens that a neuron is active for. Stores are gigabytes; this is what figures
    need of one.
    """
    manifest = read_json(store / "manifest.json")
    tokens = manifest["counted_tokens"]
    counts = load_file(store / manifest["active"]["file"])
    projections = {
        projection: np.quantile(counts[projection] / tokens, QUANTILES, axis=1).T.tolist()
        for projection in manifest["widths"]
    }
    write_json(output, {"tokens": tokens, "quantiles": list(QUANTILES), "projections": projections})


if "snakemake" in globals():
    with log_to(snakemake.log[0]):
        summarise(Path(snakemake.input.patterns), snakemake.output[0])

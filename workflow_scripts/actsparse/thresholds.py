"""Thresholds: one magnitude per site, in the JSON layout of the published files."""

from pathlib import Path

from torch import Tensor

from actsparse.files import read_json, write_json
from actsparse.histograms import quantile

Thresholds = dict[str, dict[str, float]]


def compute_thresholds(
    histograms: dict[str, Tensor], sparsity: float | dict[str, dict[str, float]]
) -> Thresholds:
    """Return {projection: {"layer_<i>": the `sparsity`-quantile of abs(activation)}}.

    `sparsity` is one for all, or one for each site, in the same layout. Sparsity 0 gives thresholds of 0,
    which keep everything.
    """

    def threshold(projection: str, layer: str, row: Tensor) -> float:
        level = sparsity[projection][layer] if isinstance(sparsity, dict) else sparsity
        return quantile(row, level) if level else 0.0

    return {
        projection: {f"layer_{i}": threshold(projection, f"layer_{i}", row) for i, row in enumerate(table)}
        for projection, table in histograms.items()
    }


def save_thresholds(thresholds: Thresholds, target: str | Path) -> None:
    """Write thresholds as JSON, atomically."""
    write_json(target, thresholds)


def load_thresholds(source: str | Path) -> Thresholds:
    """Read thresholds, ours or published ones. Raises ValueError naming the file when they are malformed."""
    thresholds = read_json(source)
    try:
        return {
            projection: {layer: float(value) for layer, value in layers.items()}
            for projection, layers in thresholds.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{source}: thresholds must be {{projection: {{layer_<i>: number}}}}") from None

"""Thresholds: one magnitude per site, in the JSON layout of the published files."""

from pathlib import Path

from actsparse.jobs.files import read_json, write_json

Thresholds = dict[str, dict[str, float]]


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

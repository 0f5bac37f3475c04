"""Activation patterns of a model's FFN, written while the model runs."""

from collections.abc import Iterable

from torch import Tensor, nn

from actsparse.codebooks.contribution import IMPORTANCES, Contributions, own_part
from actsparse.codebooks.pattern_store import PatternWriter
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.scorers.magnitude import Magnitude
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.methods.thresholds import Thresholds
from actsparse.models.sites import Site, find_sites
from actsparse.models.streaming import stream, watched


def extract_patterns(
    model: nn.Module,
    windows: Iterable[Tensor],
    thresholds: Thresholds,
    writer: PatternWriter,
    thresholded: bool = False,
    importance: str = "magnitude",
) -> None:
    """Run the model over `windows` (each int (length)); store where abs(output) >= threshold.

    Every pattern is that of the dense model: no layer sees the thresholded output of an earlier one. With
    `thresholded`, as published (arXiv 2507.14179), every layer does. A writer with magnitudes gets them too:
    abs(output), or with importance `contribution` what `Contributions` makes of it.

    Raises ValueError when the importance is unknown, or the sites are not all that it needs.
    """
    if importance not in IMPORTANCES:
        raise ValueError(f"importance: {importance!r} is unknown (allowed: {', '.join(IMPORTANCES)})")
    pattern = Threshold(thresholds)
    sites = find_sites(model, thresholds, "output")
    scheme = Scheme("output", tuple(thresholds), Magnitude(), pattern, NoMitigation())

    contributions = Contributions(sites) if importance == "contribution" else None

    def record(site: Site, x: Tensor, output: Tensor) -> None:
        values = site.part(output)[0]
        magnitudes = values.abs()
        mask = pattern.mask(magnitudes, site)
        if contributions is not None:
            magnitudes = own_part(values, site)
            contributions.add(magnitudes, mask, site)
        writer.add(site.projection, site.layer, mask, magnitudes, values)

    # Before the hooks that prune, so that these see what the layers make.
    recorded = watched(((site, site.module) for site in sites), record)
    with recorded, sparsify(model, scheme if thresholded else None):
        stream(model, windows)
    if contributions is not None:
        writer.set_factors(contributions.factors())

"""Importance by contribution: what the output of the feed-forward network would lose without a neuron.

That output is the sum over j of act(g_j) u_j W_j, with g and u the outputs of gate and up and W_j the j-th
column of down's weight. At gate only g_j is known, at up only u_j, so the mean of the other stands in for it:

    gate: abs(act(g_j)) * mean(abs(u_j)) * norm(W_j)
    up:   abs(u_j) * mean(abs(act(g_j))) * norm(W_j)
    down: abs(y_i), which is added to the hidden state as it is

Means are over calibration tokens, 0 where the thresholds cut. Weighing by the norm of what a neuron is
multiplied by is Wanda's idea (arXiv 2306.11695), for activations WINA's (arXiv 2505.19427).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from actsparse.models.sites import Site

IMPORTANCES = ("magnitude", "contribution")
SMALLEST = 1e-6  # an active neuron stays one, however little it contributes
PARTNERS = {"gate_proj": "up_proj", "up_proj": "gate_proj"}


def own_part(output: Tensor, site: Site) -> Tensor:
    """Return the part of the importance that the site's output (..., D) tells, float32 (..., D), positive.

    abs(act(output)) at gate, abs(output) elsewhere. Raises ValueError where gate's network has no activation
    function.
    """
    if site.projection == "gate_proj":
        output = site.activation(output)
    return output.float().abs().clamp_(min=SMALLEST)


class Contributions:
    """Adds up own parts while the model runs over calibration text; `factors` tells the rest."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._norms: dict[int, Tensor] = {}
        self._sums: dict[str, dict[int, Tensor]] = {}
        self._tokens: dict[str, int] = {}
        for site in sites:
            sums = self._sums.setdefault(site.projection, {})
            sums[site.layer] = torch.zeros(site.width, dtype=torch.float64)
            self._tokens[site.name] = 0
            if site.projection == "down_proj":
                self._norms[site.layer] = site.weight.float().norm(dim=0).cpu()
        if missing := {"gate_proj", "up_proj", "down_proj"} - self._sums.keys():
            raise ValueError(
                f"importance: contribution needs the outputs of {', '.join(sorted(missing))} too"
            )

    def add(self, parts: Tensor, mask: Tensor, site: Site) -> None:
        """Add the own parts of further tokens, (tokens, D), where the mask has them."""
        summed = torch.where(mask, parts, 0).sum(0, dtype=torch.float64)
        self._sums[site.projection][site.layer] += summed.cpu()
        self._tokens[site.name] += len(parts)

    def factors(self) -> dict[str, Tensor]:
        """Return what own parts of gate and up are multiplied by, float32 (layers, D), by projection."""
        tokens = max(1, *self._tokens.values())
        factors = {}
        for projection, partner in PARTNERS.items():
            rows = [total / tokens * self._norms[layer] for layer, total in self._sums[partner].items()]
            factors[projection] = torch.stack(rows).float().clamp_(min=SMALLEST)
        return factors

"""Codebook patterns: a token keeps the active neurons that its centroid covers (arXiv 2507.14179)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from actsparse.codebooks.active import active_patterns, sum_of
from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import count_active, unpack
from actsparse.codebooks.router import Router
from actsparse.methods.patterns.threshold import Threshold
from actsparse.methods.thresholds import Thresholds
from actsparse.models.sites import Site


@dataclass
class Signed:
    """The scorer that goes with it: scores are x, for the importance of a neuron may need the sign."""

    reads_site = False

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return `x`."""
        return x


@dataclass
class CodebookPattern:
    """mask = m and c_k; m: scores that reach the site's threshold, c_k: the centroid that covers m best.

    With `combine` = "replace" the mask is c_k alone: neurons below the threshold survive where it has them.
    The assignment is the oracle's, from the token's true pattern, or what `routers` (by site, such as
    "gate_proj.layer_3") predict from the input of the feed-forward network. If `joint`, up takes the centroid
    that gate was given, so that a neuron is lost to both or to neither. While masks are made, recall and
    precision of the centroids, and the recall of the trivial codebook (one centroid per layer), are counted.
    """

    thresholds: Thresholds
    codebooks: dict[str, Codebook]
    combine: str = "and"
    routers: dict[str, Router] | None = None
    joint: bool = False

    reads_site = True
    counts: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    choices: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    costs: dict[str, dict[str, int]] = field(default_factory=dict)

    def check(self, site: Site) -> None:
        """Raise ValueError when thresholds or centroids for the site are missing or of another width."""
        Threshold(self.thresholds).check(site)
        codebook = self.codebooks.get(self._chooser(site))
        layers = 0 if codebook is None else len(codebook.centroids)
        if not layers or codebook.width != site.width or 1 < layers <= site.layer:
            raise ValueError(f"{site.name}: the codebook file has no centroids of its layer and width")
        chooses = self._chooser(site) == site.projection
        if self.routers is not None and chooses and _key(site) not in self.routers:
            raise ValueError(f"{site.name}: no router was trained for it")

    def watch(self, sites: list[Site]) -> Callable[[], None]:
        """Keep the latest input of each feed-forward network for its routers; return what ends that."""
        handles = []
        if self.routers is not None:
            self._count_costs(sites)
            for layer, block in {site.layer: site.block for site in sites}.items():

                def keep(module, args, layer=layer):
                    self.inputs[layer] = args[0].flatten(0, -2)

                handles.append(block.register_forward_pre_hook(keep))

        def end() -> None:
            self.inputs.clear()
            self.choices.clear()
            for handle in handles:
                handle.remove()

        return end

    def _count_costs(self, sites: list[Site]) -> None:
        for site in sites:
            router = self.routers[_key(site)] if self._chooser(site) == site.projection else None
            network = [module for module in site.block.children() if isinstance(module, nn.Linear)]
            costs = {
                "router_parameters": router.parameters if router else 0,
                "router_multiply_adds": router.multiply_adds if router else 0,
                "ffn_multiply_adds": sum(module.weight.numel() for module in network),
            }
            before = self.costs.get(site.projection, {})
            self.costs[site.projection] = {key: cost + before.get(key, 0) for key, cost in costs.items()}

    def mask(self, scores: Tensor, site: Site) -> Tensor:
        """Return the bool mask of activations (..., d), as `Signed` has them."""
        values = scores.reshape(-1, site.width)
        rows = values.abs()
        active = active_patterns(rows, self.thresholds[site.projection][f"layer_{site.layer}"])
        chooser = self._chooser(site)
        if chooser == site.projection:
            self.choices[chooser, site.layer] = self._choose(values, active, site)
        nearest, index = self.choices[chooser, site.layer]
        chosen = self.codebooks[chooser].packed_masks(index, site.layer)
        covered = active & chosen
        self._count(site, rows, active, chosen, covered, index == nearest)
        return unpack(covered if self.combine == "and" else chosen, site.width).reshape(scores.shape)

    def predict(self, hidden: Tensor, site: Site) -> Tensor:
        """Return what routers let a site keep, bool (..., D), from its network's input (..., d)."""
        chooser = self._chooser(site)
        index = self.routers[f"{chooser}.layer_{site.layer}"].choose(hidden.flatten(0, -2))
        return self.codebooks[chooser].masks(index, site.layer).reshape(*hidden.shape[:-1], -1)

    def survive(self, values: Tensor, predicted: Tensor, site: Site) -> Tensor:
        """Return the mask of activations (..., D), which are right where `predicted` (bool) is True."""
        return predicted if self.combine == "replace" else predicted & self._active(values, site)

    def _active(self, values: Tensor, site: Site) -> Tensor:
        return Threshold(self.thresholds).mask(values.abs(), site)

    def _chooser(self, site: Site) -> str:
        """Return the projection whose centroids the site's masks are."""
        # Gate runs before up in every architecture, also where both are one layer.
        return "gate_proj" if self.joint and site.projection == "up_proj" else site.projection

    def _choose(self, values: Tensor, active: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """Return the oracle's centroids for activations (n, D) and those to take, int64 (n, G) each."""
        codebook = self.codebooks[site.projection]
        if codebook.needs_no_magnitudes:
            nearest = codebook.choose_for(active, site.layer)
        else:
            worth = codebook.worth(values, site)
            nearest = codebook.choose(torch.where(unpack(active, site.width), worth, 0), site.layer)
        if self.routers is None:
            return nearest, nearest
        return nearest, self.routers[_key(site)].choose(self.inputs[site.layer])

    def _count(
        self, site: Site, scores: Tensor, active: Tensor, chosen: Tensor, covered: Tensor, right: Tensor
    ) -> None:
        baseline = self.codebooks[site.projection].baseline
        single = None if baseline is None else active & baseline[site.layer].to(active.device)
        counts = [
            count_active(covered).sum(),
            count_active(active).sum(),
            count_active(chosen).sum(),
            torch.tensor(0) if single is None else count_active(single).sum(),
            sum_of(scores, covered),
            sum_of(scores, active),
            right.count_nonzero(),
            torch.tensor(right.numel()),
        ]
        counted = torch.stack([count.double().to(active.device) for count in counts])
        # Layers may lie on different GPUs.
        before = self.counts.get(site.projection, torch.zeros_like(counted))
        self.counts[site.projection] = before + counted.to(before.device)

    def measured(self) -> dict[str, dict]:
        """Return {"coverage": {projection: {"recall", ...}}} of all masks.

        `energy` is the share of the sum of abs(activation) over active neurons that the centroids cover;
        `accuracy`, with routers, is how often they choose the oracle's centroid; `router_parameters` and
        `router_multiply_adds` (for a token) are theirs, of all layers, and `ffn_multiply_adds` those of the
        dense feed-forward networks. `fitting_recall` is the recall of the patterns that were fitted,
        `held_out_...` what centroids cover of the evaluation text's patterns before any centroid is at work,
        where that was measured. `index_bits` name a token's centroids, `centroid_mb` (2^20 bytes) hold them.
        """
        coverage = {}
        for projection, counts in self.counts.items():
            covered, active, ones, baseline, kept, energy, right, chosen = counts.tolist()
            coverage[projection] = {
                "recall": _share(covered, active),
                "precision": _share(covered, ones),
                "energy": _share(kept, energy),
            }
            if self.routers is not None:
                coverage[projection] |= {"accuracy": right / chosen, **self.costs[projection]}
            if self.codebooks[projection].baseline is not None:
                coverage[projection]["baseline_recall"] = _share(baseline, active)
            if "fitting" in self.codebooks[projection].recall:
                coverage[projection]["fitting_recall"] = self.codebooks[projection].recall["fitting"]
            codebook = self.codebooks[projection]
            coverage[projection] |= {f"held_out_{key}": value for key, value in codebook.unseen.items()}
            coverage[projection]["index_bits"] = codebook.index_bits
            coverage[projection]["centroid_mb"] = codebook.centroids.nbytes / 2**20
        return {"coverage": coverage}


def _share(part: float, whole: float) -> float | None:
    """part / whole; None where that is no number, as for a model whose activations are NaN."""
    return part / whole if whole and math.isfinite(part / whole) else None


def _key(site: Site) -> str:
    return f"{site.projection}.layer_{site.layer}"

"""Statistics of the inputs of linear layers: one streaming pass of the dense model over calibration text."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from actsparse.methods.per_site import PerSite
from actsparse.models.sites import Site, find_sites
from actsparse.models.streaming import Once, stream, watched


@torch.inference_mode()
def measure_statistics(
    model: nn.Module, windows: Iterable[Tensor], projections: Iterable[str], layers: str | None = None
) -> PerSite:
    """Run the dense model over `windows` (each int (length)).

    Returns, for the input of each linear layer of the projections, over all tokens: per channel (d)
    `norm`, the Euclidean norm; `maximum`, of magnitudes; and `centre` (1), the mean over tokens of a token's
    median. Sums are float64, results float32 on the CPU. Memory is two vectors per layer.
    """
    sites = find_sites(model, projections, "input", layers)
    sums: dict[str, dict[str, Tensor]] = {}
    tokens: dict[str, int] = {}
    once = Once(_of_batch)  # q, k and v share one input, and so do gate and up

    def gather(site: Site, x: Tensor, output: Tensor) -> None:
        _add(sums.setdefault(site.module_name, {}), once(x))
        tokens[site.module_name] = tokens.get(site.module_name, 0) + x[..., 0].numel()

    with watched(((site, site.module) for site in sites), gather):
        stream(model, windows)
    return {
        name: {
            "norm": row["norm"].sqrt().float().cpu(),
            "maximum": row["maximum"].float().cpu(),
            "centre": (row["centre"] / tokens[name]).float().cpu(),
        }
        for name, row in sums.items()
    }


def _of_batch(x: Tensor) -> dict[str, Tensor]:
    rows = x.reshape(-1, x.shape[-1])
    return {
        "norm": rows.double().square().sum(0),
        "maximum": rows.abs().amax(0),
        "centre": rows.median(dim=-1).values.double().sum(0, keepdim=True),
    }


def _add(total: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
    for what, value in batch.items():
        if what not in total:
            total[what] = value.clone()
        elif what == "maximum":
            torch.maximum(total[what], value, out=total[what])
        else:
            total[what] += value

"""Random scores, the floor that every scorer should beat."""

from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from actsparse.models.sites import Site

# Odd multipliers below 2^31, so that no product of a 32-bit number leaves int64.
FIRST, SECOND = 0x45D9F3B, 0x2C1B3C6D
LOW_BITS = (1 << 32) - 1


@dataclass
class Random:
    """Scores are uniform numbers that depend on the seed, the site, the token's position and the channel.

    They do not depend on the batch, on the device or on what ran before.
    """

    word = "random"
    ranks = ("input", "output", "weight")
    seeded = True

    seed: int = 0

    reads_site = True

    def score(self, x: Tensor, site: Site) -> Tensor:
        """Return float32 scores in [0, 1) of the shape of `x` (..., tokens, d)."""
        shape = x.shape[-2:]
        start = crc32(f"{self.seed} {site.name}".encode())
        numbers = torch.arange(shape.numel(), dtype=torch.int64, device=x.device) + start
        for factor in (FIRST, SECOND, FIRST):
            numbers = ((numbers ^ (numbers >> 16)) * factor) & LOW_BITS
        scores = ((numbers ^ (numbers >> 16)) >> 8).float() / (1 << 24)
        return scores.reshape(shape).expand(x.shape)

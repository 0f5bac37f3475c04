"""Centroids in the layout of the artifact of arXiv 2507.14179: one `.pt` file per projection.

`centroids_{gate,up,down}_{K}_sparsity_{S}.pt` holds a float matrix of zeros and ones, K x D, for all layers.
"""

import pickle
from pathlib import Path

import torch

from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import pack, unpack
from actsparse.jobs.files import atomic_path


def read_centroids(source: str | Path) -> Codebook:
    """Read one projection's centroids. Nothing but tensors is unpickled.

    Raises ValueError naming the file when it does not hold a matrix of zeros and ones.
    """
    try:
        matrix = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{source}: not a file of tensors ({str(error).splitlines()[0]})") from None
    if not isinstance(matrix, torch.Tensor) or matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"{source}: expected a matrix of centroids, K x D")
    if not ((matrix == 0) | (matrix == 1)).all():
        raise ValueError(f"{source}: expected centroids of zeros and ones")
    return Codebook(pack(matrix.bool())[None, None], None, matrix.shape[1], [])


def write_centroids(codebook: Codebook, target: str | Path) -> None:
    """Write one projection's centroids, float32 (K, D).

    Raises ValueError when the codebook is not pooled and flat, which the layout has no place for.
    """
    if codebook.centroids.shape[:2] != (1, 1):
        raise ValueError("the artifact's layout holds pooled codebooks without groups only")
    with atomic_path(target) as temporary:
        torch.save(unpack(codebook.centroids[0, 0], codebook.width, torch.float32), temporary)


def file_name(projection: str, codebook: Codebook) -> str:
    """Return the artifact's name for a projection's centroids."""
    word = projection.removesuffix("_proj")
    sparsity = 1 - codebook.ones(0) / codebook.width
    return f"centroids_{word}_{codebook.clusters}_sparsity_{round(100 * sparsity)}.pt"

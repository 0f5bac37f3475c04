"""ActSparse: activation sparsity in language models, measured end to end.

The library knows models and tensors; it knows nothing of Snakemake.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("actsparse")
except PackageNotFoundError:  # run from a checkout that was never installed, e.g. under conda
    __version__ = "0.1.0"

"""ActSparse: activation sparsity in language models, measured end to end.

The library knows models and tensors; it knows nothing of Snakemake.
"""

__version__ = "0.1.0"

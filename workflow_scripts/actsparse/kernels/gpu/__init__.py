"""The same products and steps on a GPU, in Triton, and masks of N:M; imported only where a GPU is used."""

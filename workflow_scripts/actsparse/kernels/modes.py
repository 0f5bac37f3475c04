"""How kernels select inputs; the numbers are those of kernels/cpu/products.cpp."""

NONZERO, THRESHOLD, N_OF_M, TOP_K = range(4)

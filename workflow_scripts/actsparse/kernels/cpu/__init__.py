"""Products of few rows on the CPU, in C++; built at first use (`actsparse.kernels.cpu.build`)."""

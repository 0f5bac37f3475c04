"""Kernels: what runs fast, each tested equal to its plain definition. Imports jobs alone."""

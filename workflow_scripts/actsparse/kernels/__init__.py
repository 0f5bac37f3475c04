"""Kernels: what runs fast, each tested equal to its plain definition. Imports models and jobs alone."""

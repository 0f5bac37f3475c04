"""Evaluation: one benchmark on one experiment, and its record. Imports codebooks, calibration and below."""

"""Kinds of experiments: one file each says everything about it. May import every room below; no torch."""

"""The study: its config, validated, the grid, its tables. Imports kinds, benchmarks and below; no torch."""

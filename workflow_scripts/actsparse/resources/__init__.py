"""Models, corpora and items, fetched once, checked, kept as local files. Imports jobs."""

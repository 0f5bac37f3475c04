"""Models, corpora and benchmark items: fetched once, checked, kept as plain local files."""

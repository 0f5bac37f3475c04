"""What is made of results: tables, figures, comparisons, the archive. May import every other room."""

"""Methods: scorers, patterns, mitigations, and what applies them. Imports models and jobs."""

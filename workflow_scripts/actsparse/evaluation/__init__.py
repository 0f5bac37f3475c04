"""Evaluation of a model under a scheme: perplexity, zero-shot tasks, and the record of both."""

"""Evaluation of a model on a split, diagnostics and metrics."""

"""Benchmarks of other model servers under the same load."""

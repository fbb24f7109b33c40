"""Benchmarks of training, of serving, and of other model servers under the same load."""

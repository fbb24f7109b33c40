"""Benchmarks of other model servers and ours under the same load; run by `make bench-peers`."""

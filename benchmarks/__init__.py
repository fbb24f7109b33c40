"""Comparisons with other servers; behind `make bench-peers`."""

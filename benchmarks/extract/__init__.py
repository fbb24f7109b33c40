"""Benchmark of batch extraction, beside what bounds it and beside other ways to do the same."""

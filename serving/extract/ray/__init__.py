"""Extraction by many machines, with Ray."""

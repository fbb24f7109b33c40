"""Inputs of batch extraction."""

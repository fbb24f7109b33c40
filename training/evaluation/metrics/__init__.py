"""Disentanglement scores, and probes of the separation of u and z."""

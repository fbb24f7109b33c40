"""Training methods: PartedVAE's objective and the baselines of Table 1."""

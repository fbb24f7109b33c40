"""Networks, distributions and the PartedVAE model."""

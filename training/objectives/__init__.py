"""What can be minimised: PartedVAE's objective, and those that the paper's Table 1 compares it with."""

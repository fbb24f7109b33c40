"""Model folder of MLServer."""

"""MLServer's model folder."""

"""Configuration of the server: options, addresses, logging."""

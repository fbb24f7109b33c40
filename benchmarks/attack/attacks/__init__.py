"""The attacks by kind, one module each."""

"""The Open Inference Protocol service."""

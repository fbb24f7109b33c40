"""The training engine: trainer, loop, moving average, device and signals."""

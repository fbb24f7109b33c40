"""The training engine: loop, trainer, EMA, logging, resumption, device and signals."""

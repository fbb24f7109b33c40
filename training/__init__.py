"""Training: data, model, objective and trainer, in PyTorch. Its result is a run directory with checkpoints."""

"""Training with PyTorch: data sets, model, objectives, trainer, evaluation and figures of a run."""

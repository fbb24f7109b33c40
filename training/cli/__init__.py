"""The commands of training: train, evaluate, describe, figures, reproduce, data."""

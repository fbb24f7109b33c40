"""Export: from a run's checkpoint to a bundle (ONNX graphs and manifest), with parity to PyTorch proved on the way."""

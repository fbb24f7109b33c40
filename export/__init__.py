"""Export of runs to bundles: ONNX graphs with verified parity to PyTorch, and a manifest."""

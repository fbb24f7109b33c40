"""ONNX Runtime: devices, sessions, and batches of fixed sizes for GPUs."""

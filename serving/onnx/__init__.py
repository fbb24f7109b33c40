"""ONNX Runtime: a model's sessions, the devices they run on, and fixed batch sizes for GPUs."""

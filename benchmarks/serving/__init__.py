"""Benchmark of the server, compared with ONNX Runtime alone in the same run; run by `make bench`."""

"""How fast serving is, beside ONNX Runtime alone in the same run; behind `make bench`. Nothing else should run."""

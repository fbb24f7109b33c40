"""What client, training and serving share. Imports none of them, and neither torch nor onnxruntime."""

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where the server listens and where clients connect unless told otherwise."""

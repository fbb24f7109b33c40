"""Code shared by the client, training and serving. Imports none of them, and neither torch nor onnxruntime."""

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Default address of the server and of clients."""
DEFAULT_TIMEOUT = 60.0
"""Default seconds for which clients wait for the response to a message."""

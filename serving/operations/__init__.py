"""What a model can do, independent of gRPC: features, generation, reconstruction, traversals and transfers.

Each operation is one coroutine over the `Model` protocol (`operations.model`): the server awaits it with a model that
batches, and a program without a server runs it at once with `run_sync`.
"""

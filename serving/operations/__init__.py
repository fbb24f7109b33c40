"""What a model can do, independent of gRPC: features, generation, traversal, transfer."""

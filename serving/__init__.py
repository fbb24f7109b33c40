"""Serving: from a bundle to features, classes and images, in process, over gRPC or in bulk. Needs no torch."""

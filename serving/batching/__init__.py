"""Micro-batching of requests: admission, batches per graph, and the sessions that run them."""

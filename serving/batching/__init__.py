"""Requests of many callers become batches: admission, slots, batches, and a model's asynchronous side."""

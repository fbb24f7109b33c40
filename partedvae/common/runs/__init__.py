"""Stored runs as data, read without PyTorch: their files, and how runs differ."""

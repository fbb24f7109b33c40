"""Batch extraction: the features of many images, written into a file."""

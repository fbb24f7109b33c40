"""Data sets: uint8 images in memory with integer labels, found in the data folder or fetched, and always verified."""

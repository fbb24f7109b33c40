"""Data sets: uint8 images with integer labels, read from the data folder or downloaded, with verified checksums."""

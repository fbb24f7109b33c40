"""Reports of runs and recipes as text and JSON."""

"""Run directories and the data of a run."""

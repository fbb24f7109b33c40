"""Run directories, and the data set of a run."""

"""Ranks the images of a data set by what a label of each would teach."""

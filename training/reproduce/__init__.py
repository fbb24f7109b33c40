"""Experiments of the paper, run by one command each, with stored results and a results page."""

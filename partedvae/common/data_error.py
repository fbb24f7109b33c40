"""The error of data that a user can correct: a data set, a table of labels, a list of images."""

from __future__ import annotations


class DataError(ValueError):
    """A data set is not available or is invalid; the message states what the user can do."""

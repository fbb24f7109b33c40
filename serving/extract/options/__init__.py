"""Options of the command `extract`."""

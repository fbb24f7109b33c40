"""The server as a process: options, workers and their supervisor, logs, metrics."""

"""The server process: one worker, or several worker processes and their supervisor."""

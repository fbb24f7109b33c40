"""The page Runs: what differs between runs, and which is better."""

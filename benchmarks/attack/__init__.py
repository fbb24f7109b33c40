"""Attacks on a real server beside a client that behaves well; run by `make attack`."""

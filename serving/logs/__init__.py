"""What a server writes to stderr: records only, escaped, without credentials, and limited in rate."""

"""Programs that are measured beside ours. Each prints one line, JSON with `images` and `seconds` of its work."""

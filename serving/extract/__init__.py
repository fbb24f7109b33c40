"""Features of many images into a file."""

"""The page Map: the features of a file in two dimensions."""

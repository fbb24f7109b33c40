"""Where the rows of an extraction go: parts that appear whole, and one file of them."""

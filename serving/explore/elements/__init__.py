"""Elements of the pages that NiceGUI does not have: each is a Python class and its Vue component beside it."""

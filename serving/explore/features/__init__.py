"""The features of a file, as the map and other pages show them: read, projected, coloured, with their images."""

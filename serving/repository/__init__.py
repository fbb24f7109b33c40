"""The models of a folder: versions found, verified, loaded, watched and given out."""

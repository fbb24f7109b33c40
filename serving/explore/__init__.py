"""The web pages of `partedvae explore`: what a model has learned, and what its data set lacks."""

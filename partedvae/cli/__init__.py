"""The `partedvae` command."""

"""Generated from protos/partedvae/v1 by `make protos`; proved fresh by `make check`."""

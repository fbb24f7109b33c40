"""Generated from protos/partedvae/oip by `make protos`; proved fresh by `make check`."""

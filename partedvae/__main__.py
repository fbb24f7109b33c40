"""`python -m partedvae` is the `partedvae` command."""

from partedvae.cli.main import main

if __name__ == "__main__":
    main(prog_name="partedvae")

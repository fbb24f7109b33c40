"""The paper's figures, drawn from a run: images and latents in, one PNG each out."""

"""PartedVAE: class-related features of images from few labels. This is the face: the client and the command."""

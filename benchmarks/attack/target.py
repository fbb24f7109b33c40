"""The server under attack, as an attacker sees it: its addresses, its model and its limits."""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "/partedvae.v1.PartedVAEService/"
OPEN_INFERENCE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server, and what a client can learn from GetModel. Picklable, since attackers are processes of their own."""

    address: str
    """HOST:PORT."""
    metrics_address: str
    """HOST:PORT of the Prometheus endpoint; empty if it is disabled."""
    token: str
    """A valid bearer token, which only the good client uses; empty if the server requires none."""
    model: str
    versions: tuple[int, ...]
    """Versions of the model, oldest first."""
    image_shape: tuple[int, int, int]
    """Height, width and channels."""
    latent_dims: tuple[int, int]
    """Dimensions of all u together, and of z."""
    factor: str
    """Name of the first factor."""
    max_message_bytes: int
    max_images: int
    max_pixels: int

    @property
    def image_bytes(self) -> int:
        """Bytes of one image as packed pixels."""
        height, width, channels = self.image_shape
        return height * width * channels

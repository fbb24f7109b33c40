"""How images are packed into messages: the limits of a request, and the size of the model's images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from partedvae.common.fit import DEFAULT_FIT, Fit
from partedvae.image_fit import fit_of
from partedvae.v1.manifest_pb2 import ImageSpec
from partedvae.v1.service_pb2 import GetModelResponse

MAX_IMAGES = 1024
"""Images that are gathered into one message."""
MAX_BYTES = 3_584 * 1024
"""Bytes of pixels or files that are gathered into one message; below gRPC's default limit of 4 MiB, which proxies may
have. A single larger image is sent by itself."""
OVERHEAD = 16 * 1024
"""Bytes of a message beside pixels or files: the model's name, the outputs, and up to 8 bytes per file."""
FAR_LARGER = 4
"""An image of more than this many times the bytes of the model's is shrunk before it is sent,"""
WORTHWHILE = 64 * 1024
"""if it also has more bytes than this: less is sent faster than it is decoded."""


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Limits of one request. The default is what servers before 0.3.0, which do not report theirs, usually accept."""

    max_message_bytes: int = MAX_BYTES + OVERHEAD
    """Bytes of a request, and of a response."""
    max_images: int = MAX_IMAGES
    """Images per request, and per response."""
    max_pixels: int = 25_000_000
    """Pixels of one image (height times width) before it is resized."""
    max_request_pixels: int = 250_000_000
    """Pixels of all images of a request."""

    @classmethod
    def from_response(cls, response: GetModelResponse) -> Self:
        """Read the limits of a server."""
        if not response.HasField("limits"):
            return cls()
        limits = response.limits
        return cls(
            max_message_bytes=limits.max_message_bytes,
            max_images=limits.max_images,
            max_pixels=limits.max_pixels,
            max_request_pixels=limits.max_request_pixels,
        )


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Decides which images share a message and which are shrunk."""

    limits: RequestLimits = RequestLimits()
    """Limits of one request."""
    size: tuple[int, int, int] | None = None
    """Height, width and channels of the model's images; None where they are not known, and nothing is shrunk."""
    fit: Fit = DEFAULT_FIT
    """How images of another shape are fitted to it."""
    shrink: bool = True
    """Whether images that are far larger than the model's are shrunk, or above a limit of the request."""
    uniform: bool = False
    """Whether all images are sent at the model's size, if it is known, so that they can share a message."""

    @classmethod
    def of(cls, limits: RequestLimits, image: ImageSpec, *, shrink: bool = True) -> Self:
        """Return the packing for a model."""
        fit = fit_of(image)
        if not image.height or fit is None:  # The server fits its images in a way that this client does not know.
            return cls(limits=limits, shrink=shrink)
        return cls(limits=limits, size=(image.height, image.width, image.channels), fit=fit, shrink=shrink)

    def with_replies_of_images(self) -> Self:
        """Return the packing of requests whose response has an image at the model's size for each of theirs."""
        if self.size is None:
            return self
        per_reply = self.limits.max_message_bytes // self._model_bytes
        return replace(self, limits=replace(self.limits, max_images=max(1, min(self.limits.max_images, per_reply))))

    @cached_property
    def max_image_bytes(self) -> int:
        """Bytes of the largest image that can be sent."""
        return max(0, self.limits.max_message_bytes - OVERHEAD)

    @cached_property
    def max_chunk_images(self) -> int:
        """Images that are gathered into one message."""
        return min(MAX_IMAGES, self.limits.max_images)

    @cached_property
    def max_chunk_bytes(self) -> int:
        """Bytes that are gathered into one message."""
        return min(MAX_BYTES, self.max_image_bytes)

    def holds(self, count: int, size: int, pixels: int) -> bool:
        """Return whether a message holds several images with this many bytes and pixels in all."""
        fits_pixels = pixels <= self.limits.max_request_pixels
        return count <= self.max_chunk_images and size <= self.max_chunk_bytes and fits_pixels

    def rows(self, size: int, pixels: int) -> int:
        """Return how many images with this many bytes and pixels each share a message, at least one."""
        by_bytes, by_pixels = self.max_chunk_bytes // size, self.limits.max_request_pixels // pixels
        return max(1, min(self.max_chunk_images, by_bytes, by_pixels))

    def decoded_rows(self, size: int) -> int:
        """Return how many rows of latents with this many bytes each share a message, at least one."""
        return max(1, min(self.max_chunk_images, self.max_chunk_bytes // max(1, size)))

    def shrunk_rows(self) -> int:
        """Return how many images at the model's size share a message."""
        assert self.size is not None
        return self.rows(self._model_bytes, self.size[0] * self.size[1])

    def shrinks(self, size: int, pixels: int) -> bool:
        """Return whether an image of this many bytes and pixels is sent at the model's size."""
        if self.size is None:
            return False
        if self.uniform or not self.shrink:
            return self.uniform
        return size > max(WORTHWHILE, FAR_LARGER * self._model_bytes) or not self.fits(size, pixels)

    def fits(self, size: int, pixels: int) -> bool:
        """Return whether a message can hold an image of this many bytes and pixels."""
        return size <= self.max_image_bytes and pixels <= self.limits.max_request_pixels

    @cached_property
    def _model_bytes(self) -> int:
        assert self.size is not None
        height, width, channels = self.size
        return height * width * channels

"""Requests of attackers: valid ones, and encoded fields that no sane client would send."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.attack.target import Target
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import EncodedImages, FloatTensor, Images, PackedImages

LENGTH_DELIMITED = 2
VARINT = 0


def varint(value: int) -> bytes:
    """Return a number in base 128, lowest digit first; all digits but the last have the high bit set."""
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def tag(number: int, wire_type: int = LENGTH_DELIMITED) -> bytes:
    """Return the tag of a field."""
    return varint(number << 3 | wire_type)


def field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field: a message, a string, bytes or packed numbers."""
    return tag(number) + varint(len(value)) + value


def nearly_full(target: Target, unit: bytes) -> bytes:
    """Repeat some bytes up to the server's limit of a message, with space for a name, two images and a few tags."""
    spare = 1024 + 2 * target.image_bytes
    return unit * ((target.max_message_bytes - spare) // len(unit))


def selector(target: Target) -> pb.ModelSelector:
    """Return the selector of the served model."""
    return pb.ModelSelector(name=target.model)


def pixels(target: Target, count: int = 1) -> Images:
    """Return grey images of the model's size."""
    return Images(packed=PackedImages(data=b"\x7f" * (count * target.image_bytes), shape=(count, *target.image_shape)))


def files(*items: bytes) -> Images:
    """Return image files."""
    return Images(encoded=EncodedImages(items=items))


def latents(target: Target, count: int = 1) -> tuple[FloatTensor, FloatTensor]:
    """Return u and z of images."""
    u, z = (FloatTensor(shape=(count, dim), data=bytes(4 * count * dim)) for dim in target.latent_dims)
    return u, z


def classify(target: Target, images: Images) -> bytes:
    """Return a request of Classify."""
    return pb.ClassifyRequest(model=selector(target), images=images).SerializeToString()


def generate(target: Target, count: int = 1) -> bytes:
    """Return a request of Generate."""
    return pb.GenerateRequest(model=selector(target), count=count, seed=0).SerializeToString()


def stream_features(target: Target, count: int = 1) -> bytes:
    """Return a message of StreamFeatures."""
    return pb.StreamFeaturesRequest(model=selector(target), images=pixels(target, count)).SerializeToString()


def full_reply(target: Target) -> int:
    """Return how many generated images fill a reply."""
    return min(target.max_images, target.max_message_bytes // target.image_bytes)


def parts(data: bytes, size: int) -> Iterator[bytes]:
    """Cut bytes into parts of a size."""
    return (data[start : start + size] for start in range(0, len(data), size))

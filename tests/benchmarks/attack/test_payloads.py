"""Tests of what the attacks send: each payload is what its attack says."""

from __future__ import annotations

import io
import random
import zlib

import pytest
from google.protobuf.message import DecodeError
from PIL import Image

from benchmarks.attack.attacks.compression import ENCODINGS, bomb
from benchmarks.attack.attacks.fields import many_keys, repeated_fields
from benchmarks.attack.fuzz.methods import methods, seeds
from benchmarks.attack.fuzz.mutations import BYTE_MUTATIONS, mutated
from benchmarks.attack.image_files import bmp_run_length, jpeg_with_scans, large_pictures, slow_pictures
from benchmarks.attack.messages import field, full_reply, generate, tag, varint
from benchmarks.attack.registry import ATTACKS
from partedvae.v1 import service_pb2 as pb
from tests.benchmarks.attack.test_bounds import TARGET

PIXELS = 10_000


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_inflates_to_its_size(encoding: str) -> None:
    data = bomb(encoding, inflated=16 << 20)
    assert len(data) < (16 << 20) / 900
    assert zlib.decompress(data, wbits=ENCODINGS[encoding]) == bytes(16 << 20)


def test_large_pictures_are_valid_images_in_eight_formats() -> None:
    pictures = [opened(file) for file in large_pictures(PIXELS)]
    assert [image.size for image in pictures] == 8 * [(100, 100)]
    assert {image.format for image in pictures} == {"PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"}


def test_a_progressive_jpeg_has_the_scans() -> None:
    file = jpeg_with_scans(PIXELS, scans=50)
    assert file.count(b"\xff\xda") > 50
    assert opened(file).size == (100, 100)


@pytest.mark.parametrize("name", slow_pictures(PIXELS, 20_000))
def test_slow_pictures_are_images(name: str) -> None:
    """Pillow opens each of them: they are not refused for their first bytes."""
    file = slow_pictures(PIXELS, 20_000)[name]()
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == name.split(" ", maxsplit=1)[0].upper()


def test_a_run_length_of_any_width_is_black() -> None:
    assert opened(bmp_run_length(700, 3)).convert("L").getextrema() == (0, 0)


@pytest.mark.parametrize("value", [0, 127, 128, 300, 2**32 - 1, 2**64 - 1])
def test_varint_is_that_of_protobuf(value: int) -> None:
    request = pb.GenerateRequest.FromString(tag(4, 0) + varint(value))
    assert request.seed == value


@pytest.mark.exhaustive
def test_requests_of_repeated_fields_are_nearly_full_and_parse() -> None:
    """They are below the limit of messages, so that the server has to look at them."""
    for _, message in repeated_fields(TARGET):
        assert 0.9 * TARGET.max_message_bytes < len(message) < TARGET.max_message_bytes
    *_, (path, message) = repeated_fields(TARGET)[:9]
    assert path.endswith("/Traverse")
    assert len(pb.TraverseRequest.FromString(message).u.dimensions) > 8_000_000


def test_map_keys_differ() -> None:
    classes = pb.GenerateRequest.FromString(many_keys(TARGET, 3)).classes
    assert len(classes) > 400_000


def test_a_full_reply_is_the_largest_that_fits() -> None:
    assert full_reply(TARGET) == TARGET.max_images
    assert pb.GenerateRequest.FromString(generate(TARGET, full_reply(TARGET))).count == TARGET.max_images


def test_a_nested_field_has_its_length() -> None:
    request = pb.GetModelRequest.FromString(field(1, field(1, b"tiny")))
    assert request.model.name == "tiny"


def test_attacks_have_names_of_their_own_and_say_what_they_send() -> None:
    assert len(ATTACKS) > 45
    assert all(attack.sends and attack.name == name for name, attack in ATTACKS.items())


def test_all_methods_have_seeds_that_are_their_requests() -> None:
    known = seeds(TARGET)
    assert len(methods()) == 20
    for method in methods():
        assert all(isinstance(seed, method.request) for seed in known[method.path])


def test_mutations_depend_on_the_seed_alone() -> None:
    known = [message for messages in seeds(TARGET).values() for message in messages]
    first, second = ([mutated(random.Random(n), known) for n in range(200)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 100


def test_mutations_reach_valid_and_invalid_requests() -> None:
    """Some mutated requests parse and some do not, so that both the parser and the checks after it are tried."""
    rng = random.Random(0)
    known = seeds(TARGET)["/partedvae.v1.PartedVAEService/Generate"]
    parsed, failed = 0, 0
    for _ in range(300):
        try:
            pb.GenerateRequest.FromString(mutated(rng, known))
            parsed += 1
        except DecodeError:
            failed += 1
    assert parsed > 50
    assert failed > 50


@pytest.mark.parametrize("mutation", BYTE_MUTATIONS)
def test_byte_mutations_take_empty_messages(mutation: object) -> None:
    assert callable(mutation)
    assert isinstance(mutation(random.Random(0), b""), bytes)

import array
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partedvae.errors import InvalidRequestError
from partedvae.image_chunks import Chunk, chunks, count_of
from partedvae.packing import MAX_BYTES
from partedvae.v1.tensors_pb2 import Images


def noise(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.Generator(np.random.PCG64(0)).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pixels_of(chunk: Chunk) -> np.ndarray[Any, np.dtype[np.uint8]]:
    packed = chunk.images.packed
    return np.frombuffer(packed.data, np.uint8).reshape(tuple(packed.shape))


@pytest.mark.parametrize("shape", [(2500, 8, 6), (2500, 8, 6, 1), (2500, 4, 5, 3)])
def test_arrays_are_split_by_count(shape: tuple[int, ...]) -> None:
    """2,500 small images are sent as 1,024, 1,024 and 452, in order."""
    array = noise(*shape)
    parts = list(chunks(array))

    assert [part.positions[0] for part in parts] == [0, 1024, 2048]
    assert [len(pixels_of(part)) for part in parts] == [1024, 1024, 452]
    np.testing.assert_array_equal(np.concatenate([pixels_of(part) for part in parts]), array)


def test_arrays_are_split_by_bytes() -> None:
    """A message has as many large images as fit."""
    parts = list(chunks(noise(10, 1024, 1024)))

    assert [len(pixels_of(part)) for part in parts] == [3, 3, 3, 1]
    assert all(part.images.ByteSize() < 4 * 1024 * 1024 for part in parts)


def test_one_grey_image_needs_no_batch_axis() -> None:
    """[height, width] is a batch of one."""
    (part,) = chunks(noise(8, 6))

    assert list(part.images.packed.shape) == [1, 8, 6]


def test_any_memory_layout_arrives_in_c_order() -> None:
    """A transposed view is sent in the order of its axes."""
    array = noise(6, 8, 5).transpose(2, 1, 0)
    (part,) = chunks(array)

    np.testing.assert_array_equal(pixels_of(part), array)


def test_files_are_split_by_bytes_and_count() -> None:
    """A message has as many files as fit."""
    large = b"x" * (MAX_BYTES // 2)
    parts = list(chunks([large, large, b"small", *[b""] * 1024]))

    assert [len(part.images.encoded.items) for part in parts] == [2, 1024, 1]
    assert [part.positions[0] for part in parts] == [0, 2, 1026]


def test_a_list_may_mix_everything(tmp_path: Path) -> None:
    """Paths, bytes, Pillow images and arrays keep their order; consecutive items of one kind share a message."""
    grey, colour = noise(8, 6), noise(5, 4, 3)
    path = tmp_path / "a.png"
    path.write_bytes(png(grey))
    parts = list(chunks([path, str(path), png(grey), Image.fromarray(grey), grey, Image.fromarray(colour), colour]))

    assert [part.images.WhichOneof("source") for part in parts] == ["encoded", "packed", "packed"]
    assert list(parts[0].images.encoded.items) == [png(grey)] * 3
    np.testing.assert_array_equal(pixels_of(parts[1]), [grey, grey])
    np.testing.assert_array_equal(pixels_of(parts[2]), [colour, colour])
    assert [part.positions[0] for part in parts] == [0, 3, 5]
    assert parts[0].names == (str(path), str(path), "")


@pytest.mark.parametrize("single", ["path", "text", "bytes", "bytearray", "memoryview", "pil"])
def test_a_single_image_needs_no_list(single: str, tmp_path: Path) -> None:
    """One path, the content of one file or one Pillow image is a batch of one."""
    path = tmp_path / "a.png"
    path.write_bytes(png(noise(8, 6)))
    images: dict[str, Any] = {"path": path, "text": str(path), "bytes": path.read_bytes(), "pil": Image.open(path)}
    images |= {"bytearray": bytearray(images["bytes"]), "memoryview": memoryview(images["bytes"])}
    assert count_of(images[single]) == 1
    (part,) = chunks(images[single])
    images["pil"].close()

    assert len(part.images.encoded.items) == 1 or list(part.images.packed.shape) == [1, 8, 6]


def test_files_are_read_when_their_chunk_is_built(tmp_path: Path) -> None:
    """A generator of paths is read one chunk at a time."""
    (tmp_path / "a.png").write_bytes(png(noise(8, 6)))
    taken = []

    def paths() -> Any:
        for number in range(5000):
            taken.append(number)
            yield tmp_path / "a.png"

    next(chunks(paths()))

    assert len(taken) == 1025


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there are no images in the call; pass at least one"),
        (noise(0, 8, 6), "there are no images in an array of shape [0, 8, 6]; pass at least one"),
        (noise(8), "an array of images is [count, height, width] or [count, height, width, channels], not of shape"),
        (noise(8, 6, 3), "an array of shape [8, 6, 3] could be one image or 8; for one image with channels write"),
        (noise(2, 8, 6, 4), "the array has 4 channels, images have 1 (grey) or 3 (RGB), as the last axis"),
        (noise(2, 0, 6), "the array has images without pixels, 0 x 6"),
        (np.zeros((2, 8, 6), np.float32), "the array is float32, images are uint8; scale it to 0..255 and convert"),
        (np.zeros((2, 8, 6), np.int64), "the array is int64, images are uint8; convert it with x.astype(np.uint8)"),
        (np.zeros((2, 8, 6), ">u2"), "the array is >u2, images are uint8; convert it with (x // 257).astype(np.uint8)"),
        (noise(2, 1, 8, 6), "1 (grey) or 3 (RGB), as the last axis; move the channels to the end: np.moveaxis(x, -3,"),
        (noise(2, 8, 6, 2), "the array has 2 channels, images have 1 (grey) or 3 (RGB), as the last axis; leave out"),
        (np.array([[["a", "b"]]]), "the array is <U1, images are uint8; pass numbers; names of files and images"),
        (np.ma.masked_greater(noise(2, 8, 6), 9), "the array has masked pixels; fill them: x.filled(0)"),
        ([np.ma.masked_greater(noise(8, 6), 9)], "image 0 has masked pixels; fill them: x.filled(0)"),
        (io.BytesIO(png(noise(8, 6))), "BytesIO is not an image; pass the content of an open file, file.read(), or"),
        ([io.BytesIO(png(noise(8, 6)))], "image 0: BytesIO is not an image; pass the content of an open file"),
        ({"a": noise(8, 6)}, "dict is not a list of images; pass list(images.values())"),
        ({"a.png", "b.png"}, "set has no order, in which results are returned; pass a list"),
        ([array.array("B", b"abc")], "image 0: array is not an image; pass a uint8 NumPy array, a path"),
        ([np.float32(3)], "image 0: float32 is not an image; convert it to a NumPy array, with np.asarray(x)"),
        ("a\0b.png", "image 0: 'a\\x00b.png' is not the name of a file: embedded null byte"),
        (noise(1, 2000, 2000), "an image of 2000 x 2000 has 4,000,000 bytes, more than the 3,670,016 of a message"),
        (b"x" * 5_000_000, "image 0: not an image (it starts with b'xxxxxxxx'); replace it"),
        (
            png(noise(2000, 2000)),
            f"image 0 has {len(png(noise(2000, 2000))):,} bytes, more than the 3,670,016 of a message; scale it down",
        ),
        (
            np.zeros((2, 8, 6), np.bool_),
            "the array is bool, images are uint8; convert it with x.astype(np.uint8) * 255",
        ),
        (np.zeros((2, 8, 6), np.uint16), "the array is uint16, images are uint8; convert it with (x // 257)"),
        (
            3.5,
            "float is not an image; pass a uint8 NumPy array, a path, the content of a file as bytes, or a Pillow",
        ),
        ([b"x", None], "image 1: NoneType is not an image"),
        ([noise(8, 6), noise(8)], "image 1: an array in a list is [height, width], [height, width, channels] or"),
        ([np.zeros((8, 6))], "image 0 is float64, images are uint8; scale it"),
        ([noise(8, 6, 2)], "image 0 has 2 channels"),
    ],
)
def test_invalid_images_are_rejected(images: Any, message: str) -> None:
    """Invalid input raises before anything is sent; the message has the value and the remedy."""
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        list(chunks(images))


def test_a_missing_file_is_an_os_error() -> None:
    """A missing file raises the error of opening it."""
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere.png")):
        list(chunks(["nowhere.png"]))


def test_a_servers_message_gets_positions_of_the_call() -> None:
    """Image 1 of the second message is image 1025 of the call, with its file name."""
    chunk = Chunk(images=Images(), positions=range(1024, 1032), names=("a.png", "b.png"))

    assert chunk.locate("image 1: no bytes") == "image 1025 (b.png): no bytes"
    assert chunk.locate("image 7: no bytes") == "image 1031: no bytes"
    assert chunk.locate("the batch is empty") == "the batch is empty"


def test_batches_in_an_iterator_are_separate_chunks() -> None:
    """[count, height, width, channels] among single images; positions count images."""
    one, batch = noise(8, 6), noise(1500, 8, 6, 1)
    parts = list(chunks([one, one, batch, one]))

    assert [[part.positions[0], len(part.positions)] for part in parts] == [
        [0, 2],
        [2, 1024],
        [1026, 476],
        [1502, 1],
    ]
    np.testing.assert_array_equal(np.concatenate([pixels_of(part)[..., 0] for part in parts[1:3]]), batch[..., 0])


def test_unreadable_images_can_be_skipped(tmp_path: Path) -> None:
    """They are problems of the next chunk, with position and name; the last chunk may have problems only."""
    missing = tmp_path / "missing.png"
    first, last = chunks([missing, b"x", noise(8, 6), missing], skip_unreadable=True)

    assert (list(first.positions), [(p.index, p.name, p.reason) for p in first.problems]) == (
        [1],
        [(0, str(missing), "No such file or directory")],
    )
    assert (list(last.positions), [p.index for p in last.problems]) == ([2], [3])
    (nothing,) = chunks([missing], skip_unreadable=True)
    assert (list(nothing.positions), [p.index for p in nothing.problems]) == ([], [0])


def test_unreadable_images_before_an_array_of_several_are_problems_of_its_first_chunk(tmp_path: Path) -> None:
    """No chunk but the last one has problems alone, which would end a stream; an array of floats is one of them."""
    missing = tmp_path / "missing.png"
    floats: Any = np.zeros((2, 8, 6, 1))
    batch = noise(1500, 8, 6, 1)
    parts = list(chunks([missing, floats, batch, floats[:0], missing, b"x"], skip_unreadable=True))

    assert [(part.positions[0], len(part.positions)) for part in parts] == [(3, 1024), (1027, 476), (1504, 1)]
    assert [[problem.index for problem in part.problems] for part in parts] == [[0, 1, 2], [], [1503]]
    assert parts[0].problems[2].reason.startswith("image 1 is float64, images are uint8; scale it")
    with pytest.raises(InvalidRequestError, match=re.escape("image 1 is float64, images are uint8; scale it")):
        list(chunks([b"x", floats]))


@pytest.mark.parametrize(
    ("images", "count"),
    [(noise(5, 8, 6), 5), (noise(8, 6), 1), (b"x", 1), ("a.png", 1), (["a", "b"], 2), (iter(["a"]), None)],
)
def test_images_are_counted_where_their_number_is_known(images: Any, count: int | None) -> None:
    assert count_of(images) == count

import numpy as np
import pytest

from partedvae.grid import Row, labelled_grid, wrapped
from partedvae.results import ImageArray


def flat(count: int, height: int, width: int, channels: int, value: int) -> ImageArray:
    return np.full((count, height, width, channels), value, dtype=np.uint8)


def test_small_images_are_enlarged_by_an_integer_factor() -> None:
    """28x28 digits become 84x84; without labels there are only margins and gaps around them."""
    picture = labelled_grid([Row(images=flat(8, 28, 28, 1, 0))] * 10)

    assert picture.size == (2 * 12 + 8 * 84 + 7 * 4, 2 * 12 + 10 * 84 + 9 * 4)


def test_large_images_keep_their_size() -> None:
    """They are not enlarged."""
    picture = labelled_grid([Row(images=flat(2, 100, 80, 3, 128))])

    assert picture.size == (2 * 12 + 2 * 80 + 4, 2 * 12 + 100)


@pytest.mark.parametrize(("channels", "colour"), [(1, (9, 9, 9)), (3, (9, 9, 9))])
def test_pixels_are_unchanged(channels: int, colour: tuple[int, int, int]) -> None:
    """The picture has the values of the images."""
    picture = labelled_grid([Row(images=flat(1, 8, 8, channels, 9), label="nine")], title="a title")

    assert picture.getpixel((picture.width - 12 - 32, picture.height - 12 - 32)) == colour


def test_labels_captions_and_title_enlarge_the_picture() -> None:
    """The picture is wide enough for its text."""
    images = flat(1, 64, 64, 1, 0)
    plain = labelled_grid([Row(images=images)])

    assert labelled_grid([Row(images=images, label="a long label")]).width > plain.width + 60
    assert labelled_grid([Row(images=images, captions=["a very long caption"])]).width > plain.width + 40
    assert labelled_grid([Row(images=images)], title="a title").height > plain.height + 12
    assert labelled_grid([Row(images=images)], title="a title that is much wider").width > plain.width + 40


def test_images_wrap_to_a_square() -> None:
    """Seven captioned images make rows of three, three and one."""
    rows = wrapped(flat(7, 4, 4, 1, 0), list("abcdefg"))

    assert [len(row.images) for row in rows] == [3, 3, 1]
    assert [list(row.captions) for row in rows] == [["a", "b", "c"], ["d", "e", "f"], ["g"]]

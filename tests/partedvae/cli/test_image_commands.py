"""The commands `traverse` and `transfer` against a real server."""

from pathlib import Path

import numpy as np
import pytest
from click import Command
from click.testing import CliRunner, Result
from PIL import Image

from partedvae import Client
from partedvae.cli.image_commands import transfer, traverse
from tests.bundles import COLOURED
from tests.processes import ServerProcess


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Write two images of the coloured model's size."""
    paths = [tmp_path / f"{name}.png" for name in ("a", "b")]
    for path, pixels in zip(paths, COLOURED.random_images(2), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def run(command: Command, server: ServerProcess, *arguments: object) -> Result:
    options = ("--server", server.address, "--model", "shapes")
    return CliRunner().invoke(command, [str(argument) for argument in (*arguments, *options)])


def test_traverse(two_model_server: ServerProcess, pictures: list[Path], tmp_path: Path) -> None:
    """A picture with one row per image and dimension."""
    output = tmp_path / "new" / "z.png"
    result = run(traverse, two_model_server, *pictures, "--dim", 0, "--dim", 3, "--steps", 5, "--output", output)

    assert result.output == f"4 rows of 5 images -> {output}\n"
    with Image.open(output) as picture:
        assert picture.format == "PNG"
    assert [path.name for path in output.parent.iterdir()] == ["z.png"]


def test_traverse_classes_of_a_draw(two_model_server: ServerProcess, tmp_path: Path) -> None:
    """Without images there is one draw; the same seed gives the same picture."""
    arguments = ("--along", "classes", "--factor", "shape", "--class", "blue", "--seed", 4, "--output")
    results = [run(traverse, two_model_server, *arguments, tmp_path / f"{i}.png") for i in range(2)]

    assert [result.output for result in results] == [f"1 row of 3 images -> {tmp_path / f'{i}.png'}\n" for i in (0, 1)]
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_traverse_a_combination_of_classes(two_model_server: ServerProcess, tmp_path: Path) -> None:
    """The draw has the class of each factor that is named; two classes of one factor would be two draws."""
    output = tmp_path / "x.png"
    seed = ("--along", "u", "--factor", "colour", "--seed", 4, "--output", output)
    result = run(traverse, two_model_server, "--class", "shape=heart", "--class", "blue", *seed)
    with Client(two_model_server.address, model="shapes") as client:
        expected = client.traverse(along="u", factor="colour", classes={"shape": "heart", "colour": "blue"}, seed=4)

    assert result.exit_code == 0, result.output
    with Image.open(output) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected.to_pil([])))
    result = run(traverse, two_model_server, "--class", "heart", "--class", "square", *seed)
    assert result.exit_code == 1
    assert "'heart' and 'square' are both classes of 'shape', and an image has one class per factor" in result.output


@pytest.mark.parametrize(
    ("source", "rows"),
    [(("--class", "heart", "--class", "colour=red", "--class", "square"), 2), (("--u-image",), 1), (("--style",), 1)],
)
def test_transfer(
    two_model_server: ServerProcess, pictures: list[Path], tmp_path: Path, source: tuple[str, ...], rows: int
) -> None:
    """One row per combination of classes, or image, that gives u; one column per image that gives z."""
    output = tmp_path / "t.png"
    of_u = source if rows == 2 else (*source, pictures[0])
    result = run(transfer, two_model_server, *pictures, *of_u, "--output", output)

    assert result.output == f"{rows} row{'s' if rows > 1 else ''} of 2 images -> {output}\n"
    assert output.exists()


def test_the_former_option_of_transfer_is_hidden(
    two_model_server: ServerProcess, pictures: list[Path], tmp_path: Path
) -> None:
    """--style is --u-image: the word now means what z gives."""
    for option in ("--u-image", "--style"):
        output = tmp_path / f"{option}.png"
        run(transfer, two_model_server, *pictures, option, pictures[1], "--output", output)
    assert (tmp_path / "--style.png").read_bytes() == (tmp_path / "--u-image.png").read_bytes()
    help_text = CliRunner().invoke(transfer, ["--help"]).output
    assert "--u-image IMAGE" in help_text
    assert "--style " not in help_text


def test_invalid_input(two_model_server: ServerProcess, pictures: list[Path], tmp_path: Path) -> None:
    """Exit code and message; no picture is written."""
    output = tmp_path / "x.png"
    for command, arguments, message in (
        (traverse, ("--along", "u"), "the model has several factors; choose one of ['shape', 'colour']"),
        (traverse, ("--dim", 9), "z has no dimension 9: it has 5, counted from 0"),
        (traverse, ("--steps", 1), "1 is not in the range 2<=x<=64"),
        (transfer, (pictures[0],), "give either --u-image images or --class names, from which u is taken"),
        (transfer, (pictures[0], "--class", "star"), "the model has no class 'star'"),
        (transfer, (pictures[0], "--class", "red", "--factor", "shape"), "--factor cannot be used with --class, which"),
        (traverse, (pictures[0], "--seed", 0), "--class and --seed draw an image, and cannot be used with IMAGE"),
        (traverse, ("--factor", "shape"), "--factor cannot be used with --along z: z belongs to no factor"),
        (
            traverse,
            ("--along", "classes", "--dim", 0),
            "--dim, --steps and --reach cannot be used with --along classes",
        ),
        (traverse, ("--reach", "nan"), "'nan' is not a finite number"),
    ):
        result = run(command, two_model_server, *arguments, "--output", output)
        assert result.exit_code in (1, 2)
        assert message in result.output
    result = run(traverse, two_model_server, "--output", tmp_path / "x.parquet")
    assert "has no suffix of an image format; use .png" in result.output
    assert not output.exists()


def test_a_damaged_file_is_named(two_model_server: ServerProcess, pictures: list[Path], tmp_path: Path) -> None:
    """With the option or argument that it was given by."""
    bad = tmp_path / "bad key=1 ca=.png"
    bad.write_bytes(pictures[0].read_bytes()[:60])
    for command, arguments, message in (
        (traverse, (pictures[0], bad), f"Error: image 1 ({bad}): damaged PNG file"),
        (transfer, (pictures[0], bad, "--class", "heart"), f"Error: IMAGE: image 1 ({bad}): damaged PNG file"),
        (transfer, (pictures[0], "--u-image", bad), f"Error: --u-image: image 0 ({bad}): damaged PNG file"),
    ):
        result = run(command, two_model_server, *arguments, "--output", tmp_path / "x.png")
        assert result.exit_code == 1
        assert result.output.startswith(message)

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from partedvae import Client
from partedvae.cli.main import main
from partedvae.grid import Row, labelled_grid
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess, running_server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Write three images of the tiny model's size."""
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "long-name")]
    for path, pixels in zip(paths, GREY.random_images(3), strict=True):
        Image.fromarray(pixels[..., 0]).save(path)
    return paths


def test_models_are_listed_in_a_table(two_model_server: ServerProcess) -> None:
    """One line per version, in columns, and the warnings of the models."""
    result = run("models", "--server", two_model_server.address)

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "MODEL   VERSION      STATE  DATA SET  LABELS  FACTORS (CLASSES)      GENERATION",
        "shapes  1 (default)  ready  tiny      256     shape (3), colour (2)  38%, 100%",
        "tiny    1            ready",
        "tiny    2 (default)  ready  tiny      256     digit (10)",
        "",
        "warning: shapes version 1: images drawn for a class do not show it",
    ]


@pytest.mark.slow
def test_a_broken_version_is_listed_with_the_reason(tmp_path: Path) -> None:
    """The newest version is damaged: the previous one answers, and the table has the reason."""
    GREY.write(tmp_path / "tiny")
    graph = GREY.write(tmp_path / "tiny").decoder_path
    graph.write_bytes(graph.read_bytes()[:-1])
    with running_server(tmp_path) as server:
        result = run("models", "--server", server.address)

    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [["tiny", "1", "(default)", "ready"], ["tiny", "2", "broken"]]
    assert lines[4].startswith("tiny version 2 is broken: ")
    assert "decoder.onnx is damaged" in lines[4]


@pytest.mark.skipif(os.name != "posix", reason="names have other bytes")
def test_names_of_files_cannot_command_the_terminal(server: ServerProcess, tmp_path: Path) -> None:
    """A line break, an escape sequence and bytes that are not UTF-8 in names; JSON keeps what Unicode can write."""
    names = ["a\nb.png", "\x1b[31mred.png", os.fsdecode(b"caf\xe9.png")]
    for name, pixels in zip(names, GREY.random_images(3), strict=True):
        Image.fromarray(pixels[..., 0]).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in names]
    lines = run("classify", *paths, "--server", server.address).stdout.splitlines()[1:]
    assert [line.split("  ")[0] for line in lines] == [
        rf"{tmp_path}/a\nb.png",
        rf"{tmp_path}/\x1b[31mred.png",
        rf"{tmp_path}/caf\xe9.png",
    ]
    images = json.loads(run("classify", "--json", *paths, "--server", server.address).stdout)["images"]
    assert [image["image"] for image in images] == [*paths[:2], rf"{tmp_path}/caf\xe9.png"]
    Path(paths[1]).write_bytes(b"")
    error = run("classify", *paths, "--server", server.address).stderr
    assert (
        error
        == rf"Error: image 1 ({tmp_path}/\x1b[31mred.png): no bytes: send a PNG, JPEG, WebP, BMP, TIFF or GIF file"
        + "\n"
    )


def test_models_as_json(two_model_server: ServerProcess) -> None:
    """The output has the fields of the table, and the class names."""
    result = run("models", "--json", "--server", two_model_server.address)

    assert result.exit_code == 0
    models = json.loads(result.output)["models"]
    assert [(model["name"], model["version"], model["is_default"]) for model in models] == [
        ("shapes", 1, True),
        ("tiny", 1, False),
        ("tiny", 2, True),
    ]
    assert models[0]["factors"] == {"shape": ["square", "ellipse", "heart"], "colour": ["red", "blue"]}
    assert models[0]["measures"] == COLOURED.measures
    assert models[0]["warnings"] == list(COLOURED.warnings)
    assert models[2]["measures"] == {}


def test_classify_prints_a_table(server: ServerProcess, pictures: list[Path]) -> None:
    """One line per image, with its class and probability."""
    result = run("classify", *pictures, "--server", server.address)
    expected = GREY.encode(GREY.random_images(3))["digit.probs"]

    assert result.exit_code == 0
    header, *lines = result.output.splitlines()
    assert header.split() == ["IMAGE", "DIGIT", "PROB"]
    for line, path, probs in zip(lines, pictures, expected, strict=True):
        name, digit, prob = line.split()
        assert (name, digit) == (str(path), str(probs.argmax()))
        assert float(prob) == pytest.approx(probs.max(), abs=1e-4)


def test_classify_as_json(server: ServerProcess, pictures: list[Path]) -> None:
    """The output has the probability of every class."""
    result = run("classify", *pictures, "--json", "--server", server.address)
    expected = GREY.encode(GREY.random_images(3))["digit.probs"]

    reply = json.loads(result.output)
    assert (reply["model"], reply["version"]) == ("tiny", 1)
    for image, path, probs in zip(reply["images"], pictures, expected, strict=True):
        assert image["image"] == str(path)
        assert image["factors"]["digit"]["class"] == str(probs.argmax())
        np.testing.assert_allclose(list(image["factors"]["digit"]["probs"].values()), probs, atol=1e-5)


def test_one_row_per_class(server: ServerProcess, tmp_path: Path) -> None:
    """The grid shows the images of the server: four of each of ten classes, enlarged by an integer factor."""
    output = tmp_path / "new" / "grid.png"
    result = run("generate", "--each-class", "--count", 4, "--seed", 3, "--output", output, "--server", server.address)

    assert (result.exit_code, result.output) == (0, f"40 images -> {output} (seed 3)\n")
    with Client(server.address) as client:
        images = client.generate(4, classes="9", seed=3).images[..., 0]
    with Image.open(output) as picture:
        grid = np.asarray(picture.convert("L"))
    # 8x6 pixels, times 8; the last row is 12 pixels above the lower edge.
    last = grid[-12 - 64 : -12, -12 - 4 * 48 - 3 * 4 : -12]
    for k in range(4):
        tile = last[:, k * 52 : k * 52 + 48]
        np.testing.assert_array_equal(tile[4::8, 4::8], images[k])
    assert [path.name for path in output.parent.iterdir()] == ["grid.png"]


def test_classes_of_two_factors_are_combined(two_model_server: ServerProcess, tmp_path: Path) -> None:
    """A red heart and a red square, each a row; an existing picture is replaced."""
    output = tmp_path / "grid.png"
    output.write_text("old")
    wanted = ("--class", "heart", "--class", "colour=red", "--class", "shape=square", "--model-name", "shapes")
    options = ("--count", 2, "--seed", 5, "--output", output, "--server", two_model_server.address)
    result = run("generate", *wanted, *options)

    assert (result.exit_code, result.output) == (0, f"4 images -> {output} (seed 5)\n")
    with Client(two_model_server.address, model="shapes") as client:
        rows = [client.generate(2, classes={"shape": name, "colour": "red"}, seed=5) for name in ("heart", "square")]
    expected = labelled_grid(
        [
            Row(images=rows[0].images, label="shape=heart, colour=red"),
            Row(images=rows[1].images, label="shape=square, colour=red"),
        ],
        "shapes version 1, seed 5",
    )
    with Image.open(output) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
    assert not np.array_equal(rows[0].images, rows[1].images)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ["shape=circle", "colour=red"],
            "factor 'shape' has no class 'circle'; its classes are square, ellipse, heart",
        ),
        (["heart", "size=big"], "the model has no factor 'size'; its factors are shape, colour"),
        (["heart", "red", "gren"], "the model has no class 'gren'; its classes are square, ellipse, heart, red, blue"),
    ],
)
def test_unknown_classes_and_factors(
    two_model_server: ServerProcess, tmp_path: Path, classes: list[str], message: str
) -> None:
    """The error lists those that exist."""
    options = [argument for name in classes for argument in ("--class", name)]
    connection = ("--server", two_model_server.address, "--model-name", "shapes")
    result = run("generate", *options, *connection, "--output", tmp_path / "x.png")

    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "x.png").exists()


def test_without_a_class_classes_are_drawn(server: ServerProcess, tmp_path: Path) -> None:
    """Without --class, --count is the number of images."""
    output = tmp_path / "grid.png"
    result = run("generate", "--count", 5, "--seed", 1, "--output", output, "--server", server.address)

    assert (result.exit_code, result.output) == (0, f"5 images -> {output} (seed 1)\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", "--class", "11", "--output", "x.png"], 1, "the model has no class '11'; its classes are 0, 1, 2"),
        (["generate", "--class", "1", "--each-class", "--output", "x.png"], 2, "exclude each other; give one of them"),
        (["generate", "--output", "x.txt"], 2, "'x.txt' has no suffix of an image format; use .png"),
        (["generate", "--count", "0", "--output", "x.png"], 2, "0 is not in the range x>=1"),
        (["generate", "--count", "100000", "--output", "x.png"], 1, "a count of 100000 images is out of range"),
        (["generate", "--count", "99999999999", "--output", "x.png"], 1, "count is 99999999999; it must be 0 to"),
        (["generate", "--seed", str(2**64), "--output", "x.png"], 1, f"seed is {2**64}; it must be 0 to"),
        (["generate", "--model", "tinny", "--output", "x.png"], 1, "no model is named 'tinny'"),
        (["classify", "nowhere.png"], 2, "File 'nowhere.png' does not exist"),
        (["classify"], 2, "Missing argument 'IMAGE...'"),
        (["classify", "bad.png"], 1, "image 0 (bad.png): not an image"),
        (["generate", "--output", "bad.png/x.png"], 1, "bad.png"),
    ],
)
def test_invalid_input(
    server: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """Exit code and message; nothing is written."""
    monkeypatch.chdir(tmp_path)
    Path("bad.png").write_bytes(b"nonsense")
    result = run(*arguments, "--server", server.address)

    assert result.exit_code == code
    assert message in result.output
    assert "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]


@pytest.mark.parametrize("command", [["models"], ["classify", __file__], ["generate", "--output", "x.png"]])
def test_no_server(command: list[str]) -> None:
    """The error has the address and the command that starts a server."""
    result = run(*command, "--server", "127.0.0.1:1")

    assert result.exit_code == 1
    assert result.output == (
        "Error: no server answers at 127.0.0.1:1 (Connection refused); start one with 'partedvae serve MODELS_DIR'\n"
    )

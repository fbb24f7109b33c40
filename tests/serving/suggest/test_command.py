"""`partedvae suggest` on folders, arrays and lists, with the tiny models."""

from __future__ import annotations

import dataclasses
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from partedvae.serving.suggest.command import _print_next, suggest
from partedvae.serving.suggest.features import read_features
from tests.bundles import COLOURED, GREY
from tests.processes import ServerProcess
from tests.serving.extraction import extract

COUNT = 30


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are kept in the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images 00.png … in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "imgs").mkdir(parents=True)
    for number, pixels in enumerate(GREY.random_images(COUNT)):
        Image.fromarray(pixels[..., 0]).save(folder / f"imgs/{number:02}.png")
    return folder


@pytest.fixture
def tiny(tiny_models: Path) -> Path:
    return tiny_models / "tiny"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(suggest, [str(argument) for argument in arguments])


def ranking(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_images_of_a_folder_are_printed_without_those_that_have_a_label(photos: Path, tiny: Path) -> None:
    result = run(photos, "--model", tiny, "--count", 5)
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()
    assert len(set(first)) == 5
    assert all((photos / name).is_file() for name in first)
    (kept,) = Path("suggest").glob("photos-*/features-tiny.parquet")
    assert f"features of 30 images -> {kept}; the next time they are read from there" in result.stderr
    assert "typical: 30 images, 0 of them labelled\n" in result.stderr
    assert f"next: partedvae explore --label {photos}" in result.stderr

    rows = [
        f"{first[0]},cat,",
        f".\\{first[1].replace('/', chr(92))},dog,train",
        f"{first[2]},,test",
        f"{first[3]},NaN,",
    ]
    (photos / "labels.csv").write_text("file,animal,split\n" + "\n".join(rows))
    before = kept.stat().st_mtime_ns
    again = ranking(photos, "--model", tiny, "--count", 30)
    assert kept.stat().st_mtime_ns == before, "the features are read, not computed again"
    assert (again["ranked"], again["labelled"], again["tests"]) == (29, 2, 1)
    assert again["labels"] == str(photos / "labels.csv")
    assert set(again["images"]) == {f"imgs/{number:02}.png" for number in range(COUNT)} - set(first[:3])
    assert first[3] in again["images"], "NaN is not a label"


def test_a_list_is_written_that_names_the_images(photos: Path, tiny: Path) -> None:
    names = ["12.png", "13", "a, b.png"]
    (photos / "imgs/12.png").rename(photos / "12.png")
    for name in names[1:]:
        Image.new("L", (6, 8), 200).save(photos / name, format="png")
    if os.name == "posix":
        names.append(os.fsdecode(b"caf\xe9.png"))
        Image.new("L", (6, 8), 20).save(photos / names[-1])
        Image.new("L", (6, 8), 90).save(photos / "line\nbreak.png")
    result = run(photos, "--model", tiny, "--count", 100, "--output", "lists/all.txt")
    assert result.exit_code == 0, result.output
    assert result.stdout == "32 images -> lists/all.txt\n"
    assert "left out: 1 image with a line break in the name" in result.stderr
    assert "only 32 images without a label" in result.stderr
    lines = [os.fsdecode(line) for line in Path("lists/all.txt").read_bytes().splitlines()]
    assert len(lines) == 32
    # 13 has no ending of images, and is not read.
    assert {"12.png", "a, b.png", names[-1]} < set(lines)
    nothing = run(photos, "--model", tiny, "--labels", "lists/all.txt")
    assert nothing.exit_code == 1
    assert "all 32 images have a label already" in nothing.stderr


def test_arrays_are_named_by_index(tmp_path: Path, tiny: Path) -> None:
    np.save("images.npy", GREY.random_images(COUNT))
    first = run("images.npy", "--model", tiny, "--count", 4, "--output", "first.txt")
    assert first.exit_code == 0, first.output
    indices = [int(line) for line in Path("first.txt").read_text().splitlines()]
    assert len(set(indices)) == 4
    assert set(indices) <= set(range(COUNT))
    rest = ranking("images.npy", "--model", tiny, "--count", COUNT, "--labels", "first.txt")
    assert sorted(map(int, rest["images"])) == sorted(set(range(COUNT)) - set(indices))
    Path("labels.csv").write_text("file;digit\n" + "".join(f"{index};7\n" for index in indices))
    assert ranking("images.npy", "--model", tiny, "--count", COUNT, "--labels", "labels.csv")["labelled"] == 4
    unknown = run("images.npy", "--model", tiny, "--labels", "unknown.txt")
    assert unknown.exit_code == 2
    Path("unknown.txt").write_text("3\n99\n")
    unknown = run("images.npy", "--model", tiny, "--labels", "unknown.txt")
    assert unknown.exit_code == 1
    assert "unknown.txt, line 2: '99' is not an image of the input" in unknown.stderr


def test_margin_prefers_the_images_a_model_is_least_sure_of(photos: Path, tiny: Path) -> None:
    expected = np.sort(GREY.encode(GREY.random_images(COUNT))["digit.probs"], axis=1)
    order = np.argsort(expected[:, -1] - expected[:, -2])
    found = ranking(photos, "--model", tiny, "--strategy", "margin", "--count", 3)
    assert found["images"] == [f"imgs/{index:02}.png" for index in order[:3]]
    assert found["strategy"] == "margin"


def test_features_of_a_server_and_of_a_file_give_the_same_ranking(
    photos: Path, tiny: Path, server: ServerProcess
) -> None:
    own = ranking(photos, "--model", tiny)
    assert ranking(photos, "--server", server.address, "--cache", "served")["images"] == own["images"]
    assert Path("served/features-tiny.parquet").is_file()
    for output, options in (("f.parquet", []), ("v.arrow", ["--vectors"])):
        done = extract(photos, output, "--model", tiny, "--include", "class,probs,u,z,error", *options)
        assert done.exit_code == 0, done.output
        assert ranking(photos, "--features", output)["images"] == own["images"]
        assert not Path("suggest").joinpath(output).exists()


def test_a_label_of_another_factor_does_not_count(tmp_path: Path, two_models: Path) -> None:
    folder = tmp_path / "shapes"
    folder.mkdir()
    for number, pixels in enumerate(COLOURED.random_images(12)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    model = two_models / "shapes"
    (folder / "labels.csv").write_text("file,shape,colour\n0.png,heart,\n1.png,heart,red\n")
    counts = [ranking(folder, "--model", model, *factor)["labelled"] for factor in ((), ("--factor", "colour"))]
    assert counts == [2, 1]
    found = ranking(folder, "--model", model, "--strategy", "margin", "--count", 20)
    probs = COLOURED.encode(COLOURED.random_images(12))
    tops = [np.sort(probs[f"{name}.probs"], axis=1)[:, -2:] for name in ("shape", "colour")]
    margin = np.min([top[:, 1] - top[:, 0] for top in tops], axis=0)
    order = [index for index in np.argsort(margin) if index > 1]
    assert found["images"] == [f"{index}.png" for index in order], "the least sure factor of each image decides"
    unknown = run(folder, "--model", model, "--factor", "color")
    assert unknown.exit_code == 1
    assert "no factor is called 'color'; did you mean 'colour'? (there are: shape, colour)" in unknown.stderr


def test_images_that_cannot_be_read_are_left_out(photos: Path, tiny: Path) -> None:
    (photos / "imgs/03.png").write_bytes(b"nonsense")
    found = run(photos, "--model", tiny, "--count", 100)
    assert found.exit_code == 0, found.output
    assert len(found.stdout.splitlines()) == COUNT - 1
    assert "1 images could not be read; the first: imgs/03.png" in found.stderr
    assert "left out: 1 image could not be read" in found.stderr


def test_features_that_do_not_fit_are_refused(photos: Path, tiny: Path) -> None:
    def refused(*options: object) -> str:
        result = run(photos, *options)
        assert result.exit_code == 1, result.output
        return str(result.stderr)

    extract(photos, "f.parquet", "--model", tiny)
    assert ranking(photos, "--features", "f.parquet")["strategy"] == "typical"
    assert "--strategy margin needs the probabilities of a model" in refused(
        "--features", "f.parquet", "--strategy", "margin"
    )
    extract(photos, "c.parquet", "--model", tiny, "--include", "class")
    assert "c.parquet has no column of u; extract it again with --include class,probs,u,z,error" in refused(
        "--features", "c.parquet"
    )
    extract(photos, "f.csv", "--model", tiny)
    assert "f.csv is not read; pass a file of 'partedvae extract' in .parquet or .arrow" in refused(
        "--features", "f.csv"
    )
    Path("g.parquet").write_bytes(b"PAR1")
    assert "g.parquet is damaged, or was not written by 'partedvae extract'" in refused("--features", "g.parquet")
    (photos / "imgs/00.png").rename(photos / "imgs/31.png")
    assert "the features have 'imgs/00.png' where the input has 'imgs/01.png'" in refused("--features", "f.parquet")
    (photos / "imgs/31.png").unlink()
    assert "the features are of 30 images, and the input has 29" in refused("--features", "f.parquet")


def test_features_of_changed_images_or_another_model_are_computed_again(
    photos: Path, tiny: Path, tmp_path: Path
) -> None:
    assert ranking(photos, "--model", tiny)["ranked"] == COUNT
    Image.new("L", (6, 8), 77).save(photos / "new.png")
    assert ranking(photos, "--model", tiny)["ranked"] == COUNT + 1
    (kept,) = Path("suggest").glob("photos-*/features-tiny.parquet")
    assert pq.read_metadata(kept).num_rows == COUNT + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--features", "F", "--model", "M"), "--model, --server and --features exclude each other"),
        (("--model", "M", "--model-name", "tiny"), "--model-name requires --server"),
        (("--model", "M", "--count", "0"), "0 is not in the range x>=1"),
        (("--model", "M", "--strategy", "random"), "'random' is not one of 'auto', 'typical', 'coverage', 'margin'"),
        (("--model", "M", "--factor", ""), "the value is empty"),
    ],
)
def test_options_that_exclude_each_other(photos: Path, tiny: Path, arguments: tuple[str, ...], message: str) -> None:
    Path("F").touch()
    result = run(photos, *(str(tiny) if argument == "M" else argument for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_a_model_only_what_training_reads_is_accepted(photos: Path) -> None:
    np.save("images.npy", GREY.random_images(3))
    result = run("images.npy")
    assert result.exit_code == 1
    assert "a model, one is trained, which needs a folder of images or a data set such as mnist, and images.npy is" in (
        result.stderr
    )
    assert "pass --model MODELS_DIR/NAME, --server HOST:PORT or --features FILE" in result.stderr


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_without_a_model_and_torch_the_error_says_what_to_install(photos: Path) -> None:
    result = run(photos)
    assert result.exit_code == 1
    assert "needs torch, which is not installed; install it with: pip install 'partedvae[train]'" in result.stderr


def test_a_run_of_another_data_set_is_not_used(photos: Path) -> None:
    Path("kept/features").mkdir(parents=True)
    Path("kept/features/config.json").write_text('{"dataset": "mnist"}')
    result = run(f"folder:{photos}", "--cache", "kept")
    assert result.exit_code == 1
    assert f"kept/features is a run of mnist, not of folder:{photos}; pass another folder as --cache" in result.stderr


def test_of_the_recipe_features_the_directions_of_u_are_compared(photos: Path, tiny: Path, tmp_path: Path) -> None:
    """Also where the file of its features is given; its classes mean nothing."""
    dataclasses.replace(GREY, recipe="features", labels_used=0).write(tmp_path / "models/features")
    GREY.write(tmp_path / "models/classes")
    found = {}
    for name in ("features", "classes"):
        first = ranking(photos, "--model", tmp_path / "models" / name, "--cache", f"kept-{name}")
        assert ranking(photos, "--features", first["features"])["images"] == first["images"]
        found[name] = read_features(Path(first["features"]))
    directions, both = found["features"], found["classes"]
    assert (directions.trained, both.trained) == (False, True)
    assert both.latents.shape == (COUNT, GREY.u_dim + GREY.z_dim)
    u = both.latents[:, : GREY.u_dim]
    np.testing.assert_allclose(directions.latents, u / np.linalg.norm(u, axis=1, keepdims=True), rtol=1e-5)
    result = run(photos, "--features", first_of("features"), "--strategy", "margin")
    assert "--strategy margin needs the probabilities of a model that was trained with labels" in result.stderr


def first_of(name: str) -> Path:
    (path,) = Path(f"kept-{name}").glob("features-*.parquet")
    return path


@pytest.mark.parametrize(
    ("source", "folder", "printed"),
    [
        (
            "mnist:train",
            None,
            "next: partedvae train mnist --labels 10 --labelled file:ten.txt --features suggest/x/features\n",
        ),
        (
            "my photos",
            Path("my photos"),
            "next: partedvae explore --label 'my photos' --suggestions ten.txt\n"
            "then: partedvae train 'folder:my photos' --features suggest/x/features\n",
        ),
    ],
)
def test_the_next_commands_have_the_run_of_features(
    source: str, folder: Path | None, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _print_next(source, folder, Path("ten.txt"), 10, "", Path("suggest/x/features"))
    assert capsys.readouterr().err == printed

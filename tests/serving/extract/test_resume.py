"""Extractions that begin where others ended, are complete already, or are refused since something else is there."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from partedvae.serving.extract.extractors import LocalExtractor
from partedvae.serving.extract.output.parts import PartWriter
from partedvae.serving.extract.summary import Counts
from tests.bundles import GREY
from tests.serving.extraction import extract

PARTS = ("--rows-per-part", 16)
"""Seven parts of 100 images."""


@pytest.fixture
def array(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", GREY.random_images(100))
    return tmp_path / "images.npy"


@pytest.fixture
def model(tiny_models: Path) -> Path:
    return tiny_models / "tiny"


class Interrupted:
    """Ends an extraction as Ctrl-C does, before a part is finished."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        finish, done = PartWriter.finish, 0

        def interrupted(writer: PartWriter) -> Counts:
            nonlocal done
            done += 1
            if done > after:
                raise KeyboardInterrupt
            return finish(writer)

        monkeypatch.setattr(PartWriter, "finish", interrupted)


def interrupted(array: Path, output: Path, after: int, *options: object) -> Result:
    with pytest.MonkeyPatch.context() as monkeypatch:
        Interrupted(monkeypatch, after)
        return extract(array, output, *PARTS, *options)


def index_of(output: Path) -> list[int]:
    table = pa.dataset.dataset(output).to_table() if output.is_dir() else pq.read_table(output)
    index: list[int] = table["index"].to_pylist()
    return index


def content_of(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.mark.parametrize("name", ["features", "features.parquet"])
def test_the_same_command_goes_on(name: str, array: Path, model: Path, tmp_path: Path) -> None:
    """Complete parts stay as they are, and what was counted in them is in the summary."""
    np.save(array, GREY.random_images(100))
    output = tmp_path / name
    first = interrupted(array, output, 3, "--model", model)
    assert first.exit_code == 130
    assert first.stderr.strip() == (f"3 of 7 parts of {output} kept; run the same command again to go on")
    parts = output if name == "features" else tmp_path / ".features.parquet.parts"
    kept = content_of(parts)
    assert sorted(kept) == [f"part-0000{k}-of-00007.{'parquet' if parts is output else 'arrow'}" for k in range(3)]

    second = extract(array, output, *PARTS, "--model", model)
    assert second.exit_code == 0
    assert second.stderr == "resuming: 3 of 7 parts are done\n"
    assert second.stdout.startswith(f"100 images -> {output}, 52 of them now (")
    assert index_of(output) == list(range(100))
    if parts is output:
        assert kept.items() <= content_of(parts).items()
    else:
        assert not parts.exists()

    third = extract(array, output, *PARTS, "--model", model)
    assert third.exit_code == 0
    assert third.stderr == f"{output} is complete already\n"
    assert third.stdout == f"100 images -> {output}, all of them done before\n"


def test_a_part_that_is_missing_or_damaged_is_done_again(array: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "features"
    assert extract(array, output, *PARTS, "--model", model).exit_code == 0
    whole = content_of(output)
    (output / "part-00001-of-00007.parquet").unlink()
    damaged = output / "part-00004-of-00007.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    short = output / "part-00005-of-00007.parquet"
    pq.write_table(pq.read_table(short).slice(1), short)

    result = extract(array, output, *PARTS, "--model", model)
    assert result.exit_code == 0
    assert result.stderr == "resuming: 4 of 7 parts are done\n"
    assert content_of(output) == whole


def test_a_complete_output_is_found_without_reading_images(
    array: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [tmp_path / name for name in ("features", "a.parquet", "a.arrow", "a.npz")]
    for output in outputs:
        assert extract(array, output, *PARTS, "--model", model).exit_code == 0
    monkeypatch.delattr(LocalExtractor, "rows")
    for output in outputs:
        result = extract(array, output, *PARTS, "--model", model)
        assert (result.exit_code, result.stderr) == (0, f"{output} is complete already\n")


@pytest.mark.parametrize("name", ["features", "features.parquet"])
@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (("--include", "class,u,z"), "--include was class,u,error, now class,u,z"),
        (("--vectors",), "--vectors was off, now on"),
        (("--rows-per-part", 20), "--rows-per-part was 16, now 20"),
        (("--include", "u", "--vectors"), "--include was class,u,error, now u; --vectors was off, now on"),
    ],
)
def test_another_option_is_refused(
    name: str, options: tuple[object, ...], changed: str, array: Path, model: Path, tmp_path: Path
) -> None:
    """Unfinished or complete, it is named and nothing changes; --overwrite replaces."""
    output = tmp_path / name
    interrupted(array, output, 2, "--model", model)
    parts = output if name == "features" else tmp_path / ".features.parquet.parts"
    before = content_of(parts)
    result = extract(array, output, *PARTS, "--model", model, *options)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {output} has parts of another extraction: {changed}; pass the same, choose another --output, or pass "
        "--overwrite to replace it\n"
    )
    assert content_of(parts) == before

    assert extract(array, output, *PARTS, "--model", model).exit_code == 0
    result = extract(array, output, *PARTS, "--model", model, *options)
    assert result.exit_code == 1
    assert changed in result.stderr
    assert "--overwrite to replace it" in result.stderr

    result = extract(array, output, *PARTS, "--model", model, *options, "--overwrite")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert index_of(output) == list(range(100))


def test_another_input_or_model_is_refused(array: Path, two_models: Path, tmp_path: Path) -> None:
    output = tmp_path / "features"
    one = ("--model", two_models / "tiny" / "1")
    interrupted(array, output, 2, *one)
    result = extract(array, output, *PARTS, "--model", two_models / "tiny" / "2")
    assert "the model was version 1 of tiny, now version 2 of tiny; pass the same" in result.stderr
    np.save(array, GREY.random_images(103))
    result = extract(array, output, *PARTS, *one)
    assert "the list of images changed: there were 100 images, and are 103 now; pass the same" in result.stderr


def test_a_model_that_was_exported_again_is_refused(array: Path, tmp_path: Path) -> None:
    GREY.write(tmp_path / "models" / "tiny")
    interrupted(array, tmp_path / "features", 2, "--model", tmp_path / "models" / "tiny")
    for path in (tmp_path / "models" / "tiny" / "1").iterdir():
        path.unlink()
    (tmp_path / "models" / "tiny" / "1").rmdir()
    type(GREY)(seed=5).write(tmp_path / "models" / "tiny")
    result = extract(array, tmp_path / "features", *PARTS, "--model", tmp_path / "models" / "tiny")
    assert "another extraction: version 1 of the model tiny was exported again; pass the same" in result.stderr


def test_resume_and_no_resume(array: Path, model: Path, tmp_path: Path) -> None:
    """The one requires parts, the other deletes them; a complete output is safe from both."""
    output = tmp_path / "features.parquet"
    command = (array, output, *PARTS, "--model", model)
    result = extract(*command, "--resume")
    assert result.exit_code == 1
    assert result.stderr == f"Error: there is nothing to resume at {output}; leave out --resume to start\n"
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]

    interrupted(array, output, 2, "--model", model)
    assert extract(*command, "--resume").stderr == "resuming: 2 of 7 parts are done\n"
    output.unlink()
    interrupted(array, output, 2, "--model", model)
    result = extract(*command, "--no-resume")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"100 images -> {output} (")

    before = output.read_bytes()
    result = extract(*command, "--no-resume")
    assert result.exit_code == 1
    assert f"{output} is complete; choose another --output, or pass --overwrite to replace it" in result.stderr
    assert output.read_bytes() == before
    result = extract(*command, "--no-resume", "--overwrite")
    assert result.stdout.startswith(f"100 images -> {output} (")


def test_an_interrupted_replacement_goes_on(array: Path, model: Path, tmp_path: Path) -> None:
    """The file of before stays until the new one is whole."""
    output = tmp_path / "features.parquet"
    output.write_bytes(b"before")
    result = extract(array, output, *PARTS, "--model", model)
    assert result.stderr == (f"Error: {output} exists; choose another --output, or pass --overwrite to replace it\n")
    assert interrupted(array, output, 2, "--model", model, "--overwrite").exit_code == 130
    assert output.read_bytes() == b"before"
    result = extract(array, output, *PARTS, "--model", model, "--overwrite")
    assert result.stderr == "resuming: 2 of 7 parts are done\n"
    assert index_of(output) == list(range(100))


def test_a_folder_of_other_files_is_left_alone(array: Path, model: Path, tmp_path: Path) -> None:
    for options in ((), ("--overwrite",)):
        result = extract(array, tmp_path, "--model", model, *options)
        assert result.exit_code == 1
        assert f"{tmp_path} has other files than features (images.npy); choose another --output" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]


@pytest.mark.parametrize("name", ["features", "features.parquet", "features.npz"])
def test_outputs_at_urls_are_resumed_as_well(name: str, array: Path, model: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    root = f"/{tmp_path.name}"
    url = f"memory:/{root}/{name}"
    command = ["--model", model, *PARTS]
    with pytest.MonkeyPatch.context() as monkeypatch:
        Interrupted(monkeypatch, 3)
        result = extract(array, url, *command)
    assert f"3 of 7 parts of {url} kept" in result.stderr
    result = extract(array, url, *command)
    assert (result.exit_code, result.stderr) == (0, "resuming: 3 of 7 parts are done\n")
    if name == "features":
        paths = sorted(memory.ls(f"{root}/{name}", detail=False))
        table = pa.concat_tables([pq.read_table(memory.open(path)) for path in paths])
        assert table["index"].to_pylist() == list(range(100))
    else:
        assert memory.ls(root, detail=False) == [f"{root}/{name}"]
        with memory.open(f"{root}/{name}") as file:
            index = np.load(file)["index"] if name.endswith("npz") else pq.read_table(file)["index"].to_numpy()
        np.testing.assert_array_equal(index, np.arange(100))
    result = extract(array, url, *command)
    assert (result.exit_code, result.stderr) == (0, f"{url} is complete already\n")


def test_the_input_is_not_replaced(array: Path, model: Path, tmp_path: Path) -> None:
    """Not even with --overwrite, by whatever path or link it is reached."""
    np.savez(tmp_path / "images.npz", GREY.random_images(5))
    before = (tmp_path / "images.npz").read_bytes()
    (tmp_path / "link.npz").symlink_to("images.npz")
    for source, output in (("images.npz", "images.npz"), ("link.npz", "images.npz"), ("images.npz", "link.npz")):
        result = extract(tmp_path / source, tmp_path / output, "--model", model, "--overwrite")
        assert result.exit_code == 1
        message = f"{tmp_path / source} is the INPUT, which {tmp_path / output} would replace"
        assert result.stderr == f"Error: {message}; choose another --output\n"
    assert (tmp_path / "images.npz").read_bytes() == before

    (tmp_path / "part-00000-of-00001.parquet").write_bytes(b"list")
    result = extract(tmp_path / "part-00000-of-00001.parquet", tmp_path, "--model", model, "--overwrite")
    assert "part-00000-of-00001.parquet is the INPUT, which" in result.stderr
    assert (tmp_path / "part-00000-of-00001.parquet").read_bytes() == b"list"


def test_what_changed_is_the_option_alone(array: Path, model: Path, tmp_path: Path) -> None:
    """Columns without scores do not need the scorer, whose hash is then empty: the model is the same."""
    output = tmp_path / "features.parquet"
    assert extract(array, output, "--model", model, "--include", "class,negative_elbo").exit_code == 0
    result = extract(array, output, "--model", model, "--include", "class")
    assert result.stderr == (
        f"Error: {output} exists: --include was class,negative_elbo, now class; choose another --output, or pass "
        "--overwrite to replace it\n"
    )

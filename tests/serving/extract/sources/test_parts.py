"""Parts of sources go to other processes, and give the same rows there."""

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions
from tests.serving.extract.sources.reading import IMAGES, png, read_part, write_images, write_tar
from tests.serving.extraction import idx

KINDS = (
    *("folder", "pattern", "txt", "csv", "parquet", "parquet of images", "tars", "tar.gz"),
    *("npy", "fortran npy", "npz", "idx", "idx.gz", "mnist:test", "dsprites"),
)
READ = """
import pickle, sys
from tests.serving.extract.sources.reading import read_part
pickle.dump([vars(read_part(part)) for part in pickle.load(sys.stdin.buffer)], sys.stdout.buffer)
"""


def write_input(kind: str, folder: Path) -> tuple[str, InputOptions]:
    """Write `IMAGES` as an input of this kind, and return it."""
    names = [f"{number:02}.png" for number in range(12)]
    options = InputOptions(path_style="absolute")
    labelled = InputOptions(columns=("label",))
    match kind:
        case "folder" | "pattern":
            write_images(folder / "in", names)
            return str(folder / "in") + ("/**/*.png" if kind == "pattern" else ""), options
        case "txt":
            write_images(folder, names)
            (folder / "list.txt").write_text("\n".join(names))
            return str(folder / "list.txt"), options
        case "csv":
            write_images(folder, names)
            rows = [f"{name},{number}" for number, name in enumerate(names)]
            (folder / "list.csv").write_text("\n".join(["path,label", *rows]))
            return str(folder / "list.csv"), labelled
        case "parquet":
            write_images(folder, names)
            pq.write_table(pa.table({"path": names, "label": range(12)}), folder / "list.parquet")
            return str(folder / "list.parquet"), labelled
        case "parquet of images":
            table = pa.table({"image": [{"bytes": png(number)} for number in range(12)], "label": range(12)})
            pq.write_table(table, folder / "list.parquet", row_group_size=5)
            return str(folder / "list.parquet"), labelled
        case "npy" | "fortran npy":
            np.save(folder / "x.npy", IMAGES if kind == "npy" else np.asfortranarray(IMAGES))
            return str(folder / "x.npy"), InputOptions()
        case "npz":
            np.savez_compressed(folder / "x.npz", images=IMAGES, labels=np.arange(12))
            return str(folder / "x.npz"), InputOptions()
        case "idx" | "idx.gz":
            content = idx(IMAGES[..., 0])
            (folder / kind).write_bytes(gzip.compress(content) if kind == "idx.gz" else content)
            return str(folder / kind), InputOptions()
        case "tars":
            for shard in range(3):
                numbers = range(4 * shard, 4 * shard + 4)
                members = {f"{number}.png": png(number) for number in numbers}
                write_tar(folder / f"{shard}.tar", members | {f"{number}.label": b"x" for number in numbers})
            return f"{folder}/{{0..2}}.tar", InputOptions(path_style="url")
        case "tar.gz":
            write_tar(folder / "x.tar.gz", {f"{number}.png": png(number) for number in range(12)}, "w:gz")
            return str(folder / "x.tar.gz"), options
        case "mnist:test":
            (folder / "mnist").mkdir()
            (folder / "mnist/t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[..., 0]))
            return kind, InputOptions(data_dir=folder)
        case "dsprites":
            (folder / "dsprites").mkdir()
            bits = np.repeat(np.packbits(IMAGES[:, :2, :4, 0] > 127).reshape(12, 1), 8, axis=1)
            np.save(folder / "dsprites/packed-0123456789abcdef.npy", bits)
            return kind, InputOptions(data_dir=folder)
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_part_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    given, options = write_input(kind, tmp_path)
    source = open_source(given, options)
    assert len(source) == 12
    whole = read_part(source.part(0, 12))
    assert whole.errors == [None] * 12
    if kind != "dsprites":
        np.testing.assert_array_equal(whole.images, IMAGES)
    cuts = [(0, 5), (5, 6), (6, 12)]
    parts = [pickle.loads(pickle.dumps(source.part(first, last))) for first, last in cuts]
    assert [len(part) for part in parts] == [5, 1, 6]
    for (first, last), part in zip(cuts, parts, strict=True):
        rows = read_part(part, batch_size=2)
        assert rows.keys == whole.keys[first:last]
        assert rows.errors == [None] * (last - first)
        np.testing.assert_array_equal(rows.images, whole.images[first:last])
        assert rows.columns == {name: values[first:last] for name, values in whole.columns.items()}


def test_parts_are_small(tmp_path: Path) -> None:
    """They have their own rows alone, whatever the source has."""
    (tmp_path / "list.txt").write_text("\n".join(f"{number:090}.png" for number in range(20_000)))
    source = open_source(tmp_path / "list.txt")
    assert len(pickle.dumps(source.part(10_000, 10_010))) < 4_000
    part = pickle.loads(pickle.dumps(source.part(10_000, 10_010)))
    assert read_part(part).keys == [f"{number:090}.png" for number in range(10_000, 10_010)]


@pytest.mark.slow
def test_another_process_gives_the_same_rows(tmp_path: Path) -> None:
    sources = []
    for kind in KINDS:
        folder = tmp_path / kind.replace(":", "-")
        folder.mkdir()
        sources.append(open_source(*write_input(kind, folder)))
    parts = [source.part(3, 9) for source in sources]
    program = [sys.executable, "-c", READ]
    done = subprocess.run(program, input=pickle.dumps(parts), stdout=subprocess.PIPE, check=True)
    for kind, part, there in zip(KINDS, parts, pickle.loads(done.stdout), strict=True):
        here = vars(read_part(part))
        np.testing.assert_array_equal(there.pop("images"), here.pop("images"), err_msg=kind)
        assert there == here

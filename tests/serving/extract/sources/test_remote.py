"""Inputs at URLs: the same rows as from the same files here, and failures that name the URL."""

from __future__ import annotations

import contextlib
import gzip
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from partedvae.serving.errors import InvalidInputError
from partedvae.serving.extract.output import remote_folder
from partedvae.serving.extract.sources import outage, remote
from partedvae.serving.extract.sources.listed import ReadFailure
from partedvae.serving.extract.sources.open import open_source
from partedvae.serving.extract.sources.options import InputOptions
from partedvae.serving.extract.sources.outage import StorageError
from partedvae.serving.extract.sources.remote import RemoteFiles, Request
from tests.processes import wait_until
from tests.serving.extract.sources.conftest import BUCKET
from tests.serving.extract.sources.reading import IMAGES, png, read, read_part, write_images, write_tar
from tests.serving.extraction import extract, idx

NAMES = ["a.png", "b/c.PNG", "b/d/e.jpg", "z.png"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "DELAYS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(remote, "_storages", {})


def upload(s3: Any, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, path.relative_to(folder).as_posix())


def test_a_prefix_has_the_rows_of_the_same_folder(s3: Any, tmp_path: Path) -> None:
    folder = tmp_path / "train"
    write_images(folder, NAMES)
    for name in (".hidden.png", "b/.cache/x.png", "notes.txt", "b/i.avif"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    upload(s3, tmp_path)
    s3.put_object(Bucket=BUCKET, Key="train/b/")
    there, here = read(f"s3://{BUCKET}/train"), read(folder)
    assert there.keys == here.keys == NAMES
    assert there.errors == [None] * 4
    np.testing.assert_array_equal(there.images, here.images)
    source = open_source(f"s3://{BUCKET}/train/")
    assert source.left_out.lines() == [
        f"2 hidden (s3://{BUCKET}/train/.hidden.png, s3://{BUCKET}/train/b/.cache/x.png)",
        f"1 ending in .avif, which is not read (s3://{BUCKET}/train/b/i.avif)",
        f"1 ending in .txt, which is not read (s3://{BUCKET}/train/notes.txt)",
    ]
    assert read(f"s3://{BUCKET}/train/", path_style="url").keys == [f"s3://{BUCKET}/train/{name}" for name in NAMES]
    assert read(f"s3://{BUCKET}/train/**/?.png").keys == ["a.png", "z.png"]
    assert read(f"s3://{BUCKET}/train/b/*/*.jpg", path_style="as-given").keys == [f"s3://{BUCKET}/train/b/d/e.jpg"]
    before = source.manifest_hash
    assert open_source(f"s3://{BUCKET}/train/").manifest_hash == before
    s3.put_object(Bucket=BUCKET, Key="train/a.png", Body=png(9))
    assert open_source(f"s3://{BUCKET}/train/").manifest_hash != before


def test_the_command_gives_the_same_file_as_for_the_folder(s3: Any, tiny_models: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "train", NAMES)
    upload(s3, tmp_path)
    options = ("--model", tiny_models / "tiny", "--batch-size", 3)
    for given, output in ((f"s3://{BUCKET}/train/", "there.parquet"), (tmp_path / "train", "here.parquet")):
        result = extract(str(given), tmp_path / output, *options)
        assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "there.parquet").equals(pq.read_table(tmp_path / "here.parquet"))
    result = extract(f"s3://{BUCKET}/nowhere/", tmp_path / "f.parquet", *options)
    assert result.exit_code == 1
    assert result.stderr == f"Error: s3://{BUCKET}/nowhere/: No such file or directory\n"


def test_lists_arrays_and_archives_are_read_at_urls(s3: Any, tmp_path: Path) -> None:
    write_images(tmp_path, ["in/a.png", "in/b.png"])
    (tmp_path / "list.txt").write_text(f"in/a.png\ns3://{BUCKET}/in/b.png\nin/missing.png\n")
    np.save(tmp_path / "images.npy", IMAGES)
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(IMAGES[..., 0])))
    pq.write_table(pa.table({"url": ["in/b.png"], "label": [7]}), tmp_path / "list.parquet")
    for number in (0, 1):
        members = {f"{k}.png": png(k) for k in range(number * 3, number * 3 + 3)}
        write_tar(tmp_path / f"shard-{number}.tar", members)
    upload(s3, tmp_path)
    base = f"s3://{BUCKET}"
    listed = read(f"{base}/list.txt")
    assert listed.keys == ["in/a.png", f"s3://{BUCKET}/in/b.png", "in/missing.png"]
    assert listed.errors == [None, None, "No such file or directory"]
    np.testing.assert_array_equal(listed.images, IMAGES[:2])
    assert read(f"{base}/list.parquet", columns=("label",)).columns == {"label": [7]}
    np.testing.assert_array_equal(read(f"{base}/images.npy").images, IMAGES)
    np.testing.assert_array_equal(read(f"{base}/images.gz").images, IMAGES)
    for pattern in ("shard-*.tar", "shard-{0..1}.tar"):
        archives = read(f"{base}/{pattern}")
        assert archives.keys == [f"shard-{k // 3}.tar/{k}.png" for k in range(6)]
        np.testing.assert_array_equal(archives.images, IMAGES[:6])
    # A list here with another root.
    (tmp_path / "names.txt").write_text("a.png\n")
    assert read(tmp_path / "names.txt", root=f"{base}/in", path_style="absolute").keys == [f"{base}/in/a.png"]


def test_files_of_a_web_server(web: tuple[str, Path, dict[str, int]]) -> None:
    """Failures that pass are repeated; others are rows with the reason."""
    address, folder, attempts = web
    write_images(folder, ["a.png", "flaky.png", "sub/b.png"])
    write_tar(folder / "x.tar", {"1.png": png(1), "2.png": png(2)})
    (folder / "list.txt").write_text("a.png\nflaky.png\nbroken.png\nmissing.png\nftq://x/y.png\n")
    rows = read(f"{address}/list.txt")
    assert rows.errors == [
        None,
        None,
        "HTTP 500 Internal Server Error",
        "No such file or directory",
        "ftq://x/y.png cannot be read: Protocol not known: ftq",
    ]
    np.testing.assert_array_equal(rows.images, IMAGES[:2])
    assert attempts["/flaky.png"] == 3
    assert attempts["/broken.png"] == 4
    # This server ignores ranges.
    np.testing.assert_array_equal(read(f"{address}/x.tar").images, IMAGES[1:3])
    assert read(f"{address}/", path_style="url").keys[:2] == [f"{address}/a.png", f"{address}/flaky.png"]
    assert read(f"{address}/sub/b.png?token=1").errors == [None]


def test_a_read_that_hangs_does_not_stop_the_others(web: tuple[str, Path, dict[str, int]]) -> None:
    address, folder, _ = web
    write_images(folder, ["a.png", "b.png"])
    (folder / "list.txt").write_text("a.png\nhangs.png\nb.png\n")
    rows = read(f"{address}/list.txt", read_timeout=0.5)
    assert rows.errors == [None, "no complete answer within 0.5 s, 4 times", None]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_an_interrupted_run_does_not_wait_for_a_server(
    web: tuple[str, Path, dict[str, int]], tiny_models: Path, tmp_path: Path
) -> None:
    """One that accepts connections and never answers."""
    address, folder, attempts = web
    (folder / "list.txt").write_text("hangs.png\n" * 300)
    program = [sys.executable, "-m", "partedvae", "extract", f"{address}/list.txt"]
    program += ["--output", str(tmp_path / "f.parquet"), "--model", str(tiny_models / "tiny")]
    program += ["--read-timeout", "3000"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: "/hangs.png" in attempts)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()


def test_a_storage_that_is_not_available_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a failure per image; one that answers in between is available."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(outage, "OUTAGE", 5)
    requests = [Request(f"http://127.0.0.1:1/{number}.png") for number in range(20)]
    reading = RemoteFiles(timeout=5).read(requests)
    first = [next(reading) for _ in range(4)]
    assert all(isinstance(each, ReadFailure) for each in first)
    with pytest.raises(
        StorageError, match=r"http://127\.0\.0\.1:1/4\.png: Connect call failed .* storage is not available"
    ):
        next(reading)


class Silent:
    """A server that accepts connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.accepted: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.accepted.append(self._socket.accept()[0])


@pytest.mark.parametrize("command", ["input", "output"])
def test_a_storage_that_does_not_answer_is_not_asked_for_hours(
    command: str, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempts of the libraries do not multiply with those here."""
    server = Silent()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setattr(remote, "SILENCE", {"s3": 0.2, "http": 0.2})
    for module in (remote, remote_folder):
        monkeypatch.setattr(module, "PATIENCE", 0.1)
    url = "s3://silent/x.png" if command == "input" else "s3://silent/x"
    with pytest.raises((StorageError, OSError), match=r"Read timeout on endpoint URL") as caught:
        open_source(url) if command == "input" else remote_folder.RemoteFolder(url).names()
    assert url in str(caught.value)
    assert len(server.accepted) == 3


def test_a_single_file_that_fails_by_http_has_its_own_reason(web: tuple[str, Path, dict[str, int]]) -> None:
    """Of all failures, fsspec says that there is no such file."""
    address, _, attempts = web
    for name, message in (
        ("broken.png", r"broken\.png: HTTP 500 Internal Server Error"),
        ("hangs.png", r"hangs\.png: no answer in time"),
        ("missing.png", r"missing\.png: No such file or directory"),
    ):
        with pytest.raises(StorageError, match=message):
            open_source(f"{address}/{name}", InputOptions(read_timeout=1.0))
    assert attempts == {"/broken.png": 4, "/hangs.png": 4, "/missing.png": 1}
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:1/x\.png: Connect call failed"):
        open_source("http://127.0.0.1:1/x.png")


def test_archives_that_are_not_available_end_the_run(
    web: tuple[str, Path, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failures of all batches are counted together."""
    address, folder, _ = web
    write_tar(folder / "x.tar", {f"{number}.png": png(number) for number in range(12)})
    source = open_source(f"{address}/x.tar")
    (folder / "x.tar").rename(folder / "y.tar")
    assert read_part(source.part(0, 12)).errors == ["No such file or directory"] * 12
    monkeypatch.setattr(outage, "OUTAGE", 3)
    monkeypatch.setattr("tests.serving.extract.sources.conftest.BROKEN", "x.tar")
    with pytest.raises(StorageError, match=r"x\.tar: HTTP 500 .* the storage is not available"):
        read_part(source.part(0, 12), batch_size=4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s3://photos/nowhere", "s3://photos/nowhere: No such file or directory"),
        ("s3://photos/nowhere.png", "s3://photos/nowhere.png: No such file or directory"),
        ("s3://no-such-bucket/x/", "s3://no-such-bucket/x/: No such file or directory"),
        ("s3://photos/*.tar", "no archive matches s3://photos/*.tar"),
        ("s3://photos/", "s3://photos/ contains no images (.png, .jpg"),
        ("ftq://host/x", "ftq://host/x cannot be read: Protocol not known: ftq"),
    ],
)
def test_a_url_that_cannot_be_read_is_named(s3: Any, given: str, message: str) -> None:
    with pytest.raises((StorageError, InvalidInputError)) as caught:
        open_source(given)
    assert str(caught.value).startswith(message)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(InvalidInputError, match=r"s3://b/x needs pip install 'partedvae\[cloud\]'"):
        open_source("s3://b/x")


def test_memory_and_file_urls(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe({"/in/a.png": png(0), "/in/sub/b.png": png(1)})
    try:
        rows = read("memory://in/", path_style="url")
        assert rows.keys == ["memory://in/a.png", "memory://in/sub/b.png"]
        np.testing.assert_array_equal(rows.images, IMAGES[:2])
    finally:
        files.rm("/in", recursive=True)
    write_images(tmp_path, ["a b.png"])
    assert read((tmp_path / "a b.png").as_uri(), path_style="url").keys == [(tmp_path / "a b.png").as_uri()]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the URLs that are being read, or have been."""
    urls: list[str] = []
    start = RemoteFiles._start

    def recording(self: RemoteFiles, request: Request) -> Future[bytes]:
        urls.append(request.url)
        return start(self, request)

    monkeypatch.setattr(RemoteFiles, "_start", recording)
    return urls


def test_few_bytes_are_in_flight(s3: Any, started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files are read one at a time, and all of them are read."""
    monkeypatch.setattr(remote, "_budget", remote._Budget(1000))
    for number in range(4):
        s3.put_object(Bucket=BUCKET, Key=f"{number}", Body=b"x" * 600)
    reading = RemoteFiles().read(Request(f"s3://{BUCKET}/{number}", 600) for number in range(4))
    for number in range(4):
        assert next(reading) == b"x" * 600
        assert len(started) == number + 1
    assert list(reading) == []
    assert remote._budget._left == 1000
    assert started == [f"s3://{BUCKET}/{number}" for number in range(4)]


def test_more_bytes_are_read_ahead(s3: Any, started: list[str]) -> None:
    for number in range(40):
        s3.put_object(Bucket=BUCKET, Key=f"{number}", Body=str(number).encode())
    reading = RemoteFiles().read(Request(f"s3://{BUCKET}/{number}", 2) for number in range(40))
    assert next(reading) == b"0"
    assert len(started) == remote.IN_FLIGHT
    assert list(reading) == [str(number).encode() for number in range(1, 40)]


def test_the_options_apply_to_urls() -> None:
    with pytest.raises(InvalidInputError, match="--root is for lists of paths"):
        open_source("https://host/a.png", InputOptions(root="x"))

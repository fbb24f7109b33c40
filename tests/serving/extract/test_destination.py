"""Folders that files appear in whole or not at all, at local paths and URLs."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from partedvae.serving.errors import InvalidInputError, ServingError
from partedvae.serving.extract.output import lease, remote_folder
from partedvae.serving.extract.output.destination import Destination, LocalFolder, open_destination
from partedvae.serving.extract.output.output import parse_output


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Return a folder that does not exist."""
    return open_destination(str(tmp_path / "new") if request.param == "local" else f"memory://{tmp_path.name}/new")


def write(folder: Destination, name: str, content: bytes) -> None:
    with folder.create(name) as path:
        path.write_bytes(content)


def test_files_are_written_read_listed_and_deleted(folder: Destination) -> None:
    assert folder.names() == []
    write(folder, "b", b"first")
    write(folder, "b", b"second")
    write(folder.folder("below"), "a", b"third")
    assert folder.names() == ["b", "below"]
    with folder.open("b") as file:
        assert file.read() == b"second"
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder
    assert again.names() == ["b", "below"]
    folder.folder("below").delete("a")
    folder.folder("below").delete("a")
    folder.folder("below").remove()
    assert folder.names() == ["b"]
    with pytest.raises(FileNotFoundError), folder.open("a"):
        pass


def test_a_file_that_is_not_finished_does_not_appear(folder: Destination) -> None:
    """And the earlier one stays."""
    write(folder, "kept", b"before")

    def fail(name: str) -> None:
        with folder.create(name) as path:
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    for name in ("kept", "new"):
        with pytest.raises(KeyboardInterrupt):
            fail(name)
    assert folder.names() == ["kept"]
    with folder.open("kept") as file:
        assert file.read() == b"before"


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file.*"), open_destination(str(tmp_path / "file" / "new")).create("x"):
        pass


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files for a URL are written there first."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = open_destination("memory://bucket/x")
    message = r"memory://bucket/x/part is first written there: No space left on device; free space, or set TMPDIR"
    with pytest.raises(OSError, match=message) as caught, folder.create("part"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_urls_are_told_from_paths() -> None:
    assert open_destination("file:///tmp/x") == LocalFolder(Path("/tmp/x"))
    with pytest.raises(InvalidInputError, match=r"nosuch://x cannot be opened: Protocol not known: nosuch"):
        open_destination("nosuch://x")


def test_names_in_file_urls_are_decoded(tmp_path: Path) -> None:
    """As in those of the input."""
    output = parse_output(f"{(tmp_path / 'a b.parquet').as_uri()}")
    assert output.folder == LocalFolder(tmp_path)
    assert output.name == "a b.parquet"
    assert parse_output(f"{(tmp_path / 'ü [1]').as_uri()}/").folder == LocalFolder(tmp_path / "ü [1]")


def test_endings_in_capitals_are_those_of_files(tmp_path: Path) -> None:
    output = parse_output(str(tmp_path / "FEATURES.PARQUET"))
    assert (output.name, output.format) == ("FEATURES.PARQUET", "parquet")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://host/features", "https://host/features cannot be written: pass a local path, or the URL of an obj"),
        ("http://host/features.parquet", "http://host cannot be written: pass a local path, or the URL of an object"),
        ("s3://", "s3:// names no bucket or folder; pass a URL such as s3://bucket/features"),
    ],
)
def test_urls_that_cannot_be_written_are_refused_at_once(url: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        parse_output(url)


def test_a_url_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InvalidInputError, match=r"s3://bucket/x needs a package .* pip install 'partedvae\[cloud\]'"):
        open_destination("s3://bucket/x")


class NoCredentialsError(Exception):
    """As in botocore, which may not be installed."""


class Unreliable:
    """A file system whose calls fail a number of times."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def makedirs(self, path: str, exist_ok: bool) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)

    def put_file(self, local: str, path: str) -> None:
        pass


@pytest.mark.parametrize(
    ("errors", "calls", "message"),
    [
        ([TimeoutError("slow"), RuntimeError("reset")], 3, None),
        ([ConnectionError("reset")] * 4, 4, "reset"),
        ([PermissionError(errno.EACCES, "Access Denied")], 1, "Access Denied"),
        ([NoCredentialsError("Unable to locate credentials")], 1, "Unable to locate credentials; set them as for"),
    ],
)
def test_calls_at_a_url_are_repeated(
    errors: list[Exception], calls: int, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pauses, and not if the error is one that does not pass; what is reported names the file."""
    system = Unreliable(*errors)
    pauses: list[float] = []
    monkeypatch.setattr(remote_folder, "_file_system", lambda url: (system, "bucket/x"))
    monkeypatch.setattr("time.sleep", pauses.append)
    folder = remote_folder.RemoteFolder("s3://bucket/x")
    if message is None:
        write(folder, "part", b"content")
    else:
        with pytest.raises(OSError, match=message) as caught:
            write(folder, "part", b"content")
        assert caught.value.filename == "s3://bucket/x/part"
        assert str(caught.value.strerror).startswith(message)
    assert system.calls == calls
    assert pauses == [0.5, 2.0, 8.0][: calls - 1]


def test_two_processes_cannot_write_the_same_local_folder(tmp_path: Path) -> None:
    """The lock ends with its process, also when it is killed; the file that it leaves does not matter."""
    program = (
        "import sys, pathlib, time\n"
        "from partedvae.common.folder_lock import folder_lock\n"
        "with folder_lock(pathlib.Path(sys.argv[1]), ValueError):\n"
        "    print('locked', flush=True)\n    time.sleep(60)\n"
    )
    folder = LocalFolder(tmp_path / "new")
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ServingError, match=rf"process {process.pid} on .*, since 20.*, is writing {folder};"):
            folder.locked().__enter__()
        process.kill()
    assert folder.names() == [".lock"]
    with folder.locked():
        assert json.loads((folder.root / ".lock").read_text())["pid"] == os.getpid()
    assert folder.names() == []


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that writes the lock of another process into a folder at a URL."""
    monkeypatch.setattr("socket.gethostname", lambda: "here")

    def hold(host: str, pid: int, age: float) -> None:
        holder = {"host": host, "pid": pid, "started": 0.0, "renewed": time.time() - age, "token": "t"}
        fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/locked/.lock", json.dumps(holder).encode())

    return hold


@pytest.mark.parametrize(("host", "pid"), [("here", os.getpid()), ("elsewhere", 1)], ids=["here", "elsewhere"])
def test_two_processes_cannot_write_the_same_url(
    host: str, pid: int, held: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one sees that the first one renews its lock."""
    held(host, pid, age=5)
    monkeypatch.setattr("time.sleep", lambda seconds: held(host, pid, age=0))
    with pytest.raises(ServingError, match=rf"process {pid} on {host}, since .*, is writing memory://"):
        open_destination(f"memory://{tmp_path.name}/locked").locked().__enter__()


@pytest.mark.parametrize(
    ("host", "pid", "age", "waits"),
    [("here", 2**22 + 1, 0, False), ("elsewhere", 1, 1000, False), ("elsewhere", 1, 0, True), ("here", 1, 0, True)],
    ids=["ended here", "long ago", "just before", "number of another process"],
)
def test_the_lock_of_a_killed_process_ends(
    host: str,
    pid: int,
    age: float,
    waits: bool,
    held: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command that is started again at once, such as by Kubernetes, waits for that."""
    held(host, pid, age)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:  # When the lease has expired.
            monkeypatch.setattr(lease, "EXPIRED", 0.0)

    monkeypatch.setattr("time.sleep", pause)
    folder = open_destination(f"memory://{tmp_path.name}/locked")
    with folder.locked():
        assert json.loads(folder.read(".lock", lambda file: file.read()))["pid"] == os.getpid()
    assert folder.names() == []
    assert pauses == ([lease.POLL] * 3 if waits else [])


def test_a_lock_at_a_url_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a second process does not take it for that of a killed one."""
    monkeypatch.setattr(lease, "RENEWED", 0.02)
    monkeypatch.setattr(lease, "POLL", 0.02)
    folder = open_destination(f"memory://{tmp_path.name}/locked")
    with folder.locked(), pytest.raises(ServingError, match=rf"process {os.getpid()} on .*, is writing memory://"):
        folder.locked().__enter__()
    assert folder.names() == []

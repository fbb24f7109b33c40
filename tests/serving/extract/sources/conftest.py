"""Fixtures of the tests of sources: a local S3 and a server of files over HTTP."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

BUCKET = "photos"
BROKEN = "broken"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Run a local S3, once per session, and return its address."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Return a client of the local S3 with an empty bucket, which the environment leads to."""
    boto3 = pytest.importorskip("boto3")
    for name, value in (
        ("AWS_ENDPOINT_URL", s3_endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and fails where the name says so; without ranges, as simple servers do."""

    attempts: dict[str, int]

    def do_GET(self) -> None:
        """Answer a request."""
        self.attempts[self.path] = attempt = self.attempts.get(self.path, 0) + 1
        if "flaky" in self.path and attempt < 3:
            self.send_error(503)
        elif "hangs" in self.path:
            self.server.released.wait(60)  # type: ignore[attr-defined]
        elif BROKEN in self.path:
            self.send_error(500)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path, dict[str, int]]]:
    """Serve a folder over HTTP; return its address, the folder, and the number of requests per path."""
    pytest.importorskip("aiohttp")
    folder = tmp_path / "web"
    folder.mkdir()
    attempts: dict[str, int] = {}
    handler = type("Counting", (Handler,), {"attempts": attempts})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    server.daemon_threads = True
    server.released = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder, attempts
    server.released.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()

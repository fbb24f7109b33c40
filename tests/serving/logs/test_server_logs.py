"""Everything that a real server writes to stderr is a record, whatever its clients and its libraries do."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from partedvae.v1 import service_pb2 as pb
from partedvae.v1.service_pb2_grpc import PartedVAEServiceStub
from partedvae.v1.tensors_pb2 import EncodedImages, Images
from tests.processes import PATIENCE, SERVE, ServerProcess, running_server, wait_until, workers_of

pytestmark = pytest.mark.slow

SECRET = b"s3cret"
METHOD = b"/partedvae.v1.PartedVAEService/ListModels"
HANDSHAKES = 200
LOADING = "partedvae.serving.repository.versions"
"""The logger of versions that are loaded."""


def records(server: ServerProcess) -> list[dict[str, Any]]:
    """Return the log of a server with --log-format json, of which each line must be an object."""
    found = [json.loads(line) for line in server.log_file.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= each.keys() for each in found)
    return found


def send(address: str, *parts: bytes) -> None:
    """Send bytes to a server, and wait until it has answered or closed the connection."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"".join(parts))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


def call(address: str, path: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Make a call by HTTP/2 frames, whose headers may contain any bytes; gRPC's client refuses these."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def literal(text: bytes) -> bytes:
        assert len(text) < 127
        return bytes([len(text)]) + text

    fields = [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")),
        *((b"content-type", b"application/grpc"), (b"te", b"trailers"), *headers),
    ]
    block = b"".join(b"\0" + literal(name) + literal(value) for name, value in fields)
    send(
        address,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(4, 0, 0, b""),
        frame(1, 4, 1, block),
        frame(0, 1, 1, bytes(5)),
    )


@pytest.mark.parametrize("kind", [pytest.param("text", marks=pytest.mark.exhaustive), "json"])
def test_headers_neither_forge_lines_nor_show_tokens(tiny_models: Path, tmp_path: Path, kind: str) -> None:
    """Headers that are not UTF-8, which gRPC logs with a traceback; the path may have a line break."""
    (tmp_path / "tokens").write_text("good\n")
    options = ("--token-file", str(tmp_path / "tokens"), "--log-format", kind, "--log-level", "debug")
    with running_server(tiny_models, *options) as server:
        call(server.address, METHOD, (b"authorization", b"Bearer " + SECRET + b"\xff"))
        call(server.address, METHOD, (b"authorization", SECRET + b"\xff" + SECRET))
        call(server.address, METHOD, (b"x-api-key", SECRET + b"\xfe"))
        call(
            server.address,
            METHOD,
            (b"authorization", b"Bearer good"),
            (b"x-request-id", b"\x1b[2J\xc2\x9b\xe2\x80\xae"),
        )
        call(server.address, b"/\xff\n2026-11-26 00:00:00,000 ERROR forged: line")
        call(server.address, b"/\xff\r\xe2\x80\xa82026-11-26 00:00:00,000 ERROR forged: line")
        wait_until(lambda: server.log_file.read_text().count("forged: line") == 2)
        server.stop()
        text = server.log_file.read_text()
        assert SECRET.decode() not in text
        assert "Invalid encoding on [14 bytes]" in text
        if kind == "json":
            messages = [each["message"] for each in records(server)]
            assert all(message.isprintable() for message in messages)
            assert sum("forged" in message for message in messages) == 2
        else:
            lines = text.split("\n")[:-1]
            assert all(line.isprintable() for line in lines)
            assert all(re.match(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [a-z_.]+: |    \S|    +", line) for line in lines)
            assert not any(re.match(r".{23} ERROR forged", line) for line in lines)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return the options of a server with a certificate."""
    folder = tmp_path_factory.mktemp("keys")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{folder}/key.pem")
    command = ["openssl", "req", "-x509", *key, "-out", f"{folder}/cert.pem", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    return "--tls-cert", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem"


@pytest.mark.exhaustive
@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.exhaustive), "2"])
def test_a_flood_of_bad_handshakes(tiny_models: Path, keys: tuple[str, ...], workers: str) -> None:
    """The core of gRPC writes about each; the log has some of them, and the number of the others."""
    with running_server(tiny_models, *keys, "--log-format", "json", "--workers", workers) as server:
        for _ in range(HANDSHAKES):
            send(server.address, b"GET / HTTP/1.1\r\nAuthorization: Bearer ", SECRET, b"\r\n\r\n")
        server.stop()
        found = [each for each in records(server) if each["logger"] == "grpc.core"]
    shown = [each for each in found if "Handshake failed" in each["message"]]
    assert 0 < len(shown) < HANDSHAKES / 2
    suppressed = sum(each.get("suppressed", 0) for each in found)
    for each in found:
        if match := re.fullmatch(r"(\d+) messages like earlier ones were suppressed", each["message"]):
            suppressed += int(match[1])
    assert len(shown) + suppressed == HANDSHAKES
    assert SECRET.decode() not in json.dumps(found)


def broken_tiff() -> bytes:
    """Return a file about which both Pillow and libtiff complain: its directory is longer than the file."""
    entries = [(256, 4), (257, 4), (258, 8), (259, 5), (262, 1), (273, 8), (277, 1), (278, 4), (279, 4)]
    directory = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries) + 300) + directory


@pytest.mark.parametrize("kind", [pytest.param("text", marks=pytest.mark.exhaustive), "json"])
def test_what_an_image_makes_libraries_write(tiny_models: Path, kind: str) -> None:
    """Warnings of Pillow, which Python prints, and of libtiff, which is C, are not in the log: the caller gets them."""
    with running_server(tiny_models, "--log-format", kind) as server, grpc.insecure_channel(server.address) as channel:
        stub = PartedVAEServiceStub(channel)
        for _ in range(60):
            with pytest.raises(grpc.RpcError):
                stub.ExtractFeatures(
                    pb.ExtractFeaturesRequest(images=Images(encoded=EncodedImages(items=[broken_tiff()])))
                )
        server.stop()
        lines = server.log_file.read_text().splitlines()
        assert not any("EXIF" in line or "TIFF" in line for line in lines)
        if kind == "json":
            assert {each["logger"].partition(".")[0] for each in records(server)} == {"partedvae"}
        else:
            assert all(re.match(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [a-z_.]+: ", line) for line in lines)


NOISY = """
import os, sys, threading, warnings
from partedvae.cli.main import main
from partedvae.serving.server import worker

def run(config, on_ready, **options):
    os.write(2, b"from C \\x1b[2J\\n2026-11-26 00:00:00,000 ERROR forged\\nwithout an end")
    print("from Python", file=sys.stderr)
    warnings.warn("of\\nPython")
    thread = threading.Thread(target=lambda: 1 / 0, name="divider")
    thread.start()
    thread.join()
    class Bad:
        def __del__(self): raise KeyError("s3cret".upper())
    Bad()
    {end}

worker.run = run
main(["serve", sys.argv[1], "--log-format", sys.argv[2]])
"""
ENDS = {
    "exception": ("raise LookupError('of the\\nserver')", 1, "critical", "the process ends with an unexpected error"),
    "system error": (
        "raise OSError(28, 'No space left on device', '/x')",
        1,
        "critical",
        "/x: No space left on device",
    ),
    "abort": ("os.write(2, b'Fatal at last'); os.abort()", -signal.SIGABRT, "warning", "Fatal at last"),
    "exit": ("os.write(2, b'last words'); os._exit(3)", 3, "warning", "last words"),
    "interrupt": ("raise KeyboardInterrupt", 130, "warning", "interrupted before calls were accepted"),
}


@pytest.mark.parametrize(
    "end",
    [
        "abort",
        *(
            pytest.param(end, marks=pytest.mark.exhaustive)
            for end in ("exception", "system error", "exit", "interrupt")
        ),
    ],
)
def test_whatever_is_written_is_a_record(tiny_models: Path, tmp_path: Path, end: str) -> None:
    """Also what is written in the moment in which the process ends."""
    code, expected, level, message = ENDS[end]
    program = NOISY.replace("{end}", code)
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tiny_models), "json"],
        stdout=subprocess.DEVNULL,
        stderr=writing,
        cwd=tmp_path,
    )
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as log:  # Ends when the reader of the lines has ended, too.
        found = [json.loads(line) for line in log]
    assert process.wait(PATIENCE) == expected
    messages = {each["message"]: each for each in found}
    assert r"from C \x1b[2J" in messages
    assert "2026-11-26 00:00:00,000 ERROR forged" in messages
    assert "without an endfrom Python" in messages
    assert any(each.endswith(r"UserWarning: of\nPython") for each in messages)
    assert "ZeroDivisionError" in messages["a thread ended with an unexpected error: divider"]["exception"]
    assert any(each.startswith("Exception ignored") or "__del__" in each for each in messages)
    assert any(text.startswith(message) and each["level"] == level for text, each in messages.items())


def test_a_crash_of_a_worker_is_logged(tiny_models: Path) -> None:
    """With its stacks, through the process that outlives it."""
    with running_server(tiny_models, "--workers", "2", "--log-format", "json") as server:
        first, _ = workers_of(server)
        os.kill(first, signal.SIGSEGV)
        wait_until(lambda: "accepts calls again" in server.log_file.read_text())
        server.stop()
        found = {each["message"]: each for each in records(server)}
    assert found["Fatal Python error: Segmentation fault"]["level"] == "critical"
    assert any("was ended by SIGSEGV" in message for message in found)
    assert any(re.fullmatch(r'  File "[^"]+", line \d+ in \w+', message) for message in found)


@pytest.mark.exhaustive
def test_the_trace_of_grpc_is_json_to_the_end(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core writes all metadata, with the token, and goes on until the process has ended."""
    monkeypatch.setenv("GRPC_VERBOSITY", "debug")
    monkeypatch.setenv("GRPC_TRACE", "http,api")
    with running_server(tiny_models, "--log-format", "json") as server:
        call(server.address, METHOD, (b"authorization", b"Bearer " + SECRET))
        server.stop()
        found = records(server)
    assert {each["logger"] for each in found} == {"grpc.core", "partedvae.serving.grpc.server", LOADING}
    assert SECRET.decode() not in json.dumps(found)


@pytest.mark.parametrize("kind", [pytest.param("text", marks=pytest.mark.exhaustive), "json"])
def test_an_error_at_start(tmp_path: Path, kind: str) -> None:
    """One line: of the command in plain text, and a record in JSON."""
    missing = tmp_path / "none"
    done = subprocess.run(
        [sys.executable, *SERVE, str(missing), "--log-format", kind], capture_output=True, text=True, check=False
    )
    text = f"{missing} is not a folder of models; export a run into it with 'partedvae export'"
    assert (done.returncode, done.stdout) == (1, "")
    if kind == "text":
        assert done.stderr == f"Error: {text}\n"
    else:
        found = json.loads(done.stderr)
        assert (found["level"], found["message"]) == ("critical", text)


@pytest.mark.exhaustive
def test_a_server_whose_log_has_no_reader_serves(tiny_models: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *SERVE, str(tiny_models), "--address", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        address = process.stdout.readline().split()[-1]
        process.stderr.close()
        call(address, b"/\xff")
        with grpc.insecure_channel(address) as channel:
            models = PartedVAEServiceStub(channel).ListModels(pb.ListModelsRequest()).models
        assert [model.model.name for model in models] == ["tiny"]
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()

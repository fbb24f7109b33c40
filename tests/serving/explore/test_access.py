"""Tests of who may use the pages: hosts, origins, tokens, and the size of requests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from partedvae.serving.explore.listen import new_token
from tests.serving.explore.explorer import Explorer, running_explorer

pytestmark = pytest.mark.slow

PATHS = ("/", "/generate", "/generate.png", "/static/explore.css", "/_nicegui_ws/socket.io/?EIO=4&transport=polling")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """Run an explorer that other machines can reach, with a token made at its start."""
    with running_explorer("--runs", tmp_path_factory.mktemp("runs"), address="0.0.0.0:0") as explorer:
        yield explorer


def websocket_status(url: str, **headers: str) -> int:
    """Ask for a websocket and return the status of the answer."""
    address = urlsplit(url)
    assert address.hostname
    sent = {
        "Host": address.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = ["GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in sent.items()]
    with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(connection.recv(100).split()[1])


def token_of(explorer: Explorer) -> str:
    """Return the token of the printed link."""
    query = urlsplit(explorer.link).query
    assert query.startswith("token=")
    return query.removeprefix("token=")


def test_addresses_that_others_can_reach_require_a_token(guarded: Explorer) -> None:
    """Every path, and the websocket: 401 with a page that explains it."""
    for path in PATHS:
        response = httpx.get(guarded.url + path)
        assert response.status_code == 401, path
        assert "A token is required" in response.text
    assert websocket_status(guarded.url) == 403


def test_a_wrong_token_is_refused(guarded: Explorer) -> None:
    assert "The token is wrong." in httpx.get(f"{guarded.url}/?token=wrong").text
    assert httpx.get(f"{guarded.url}/?token=").status_code == 401
    cookie = {"Cookie": f"partedvae_explore_{urlsplit(guarded.url).port}=wrong"}
    assert httpx.get(f"{guarded.url}/generate", headers=cookie).status_code == 401


def test_the_printed_link_leaves_a_cookie_and_no_token_in_the_address(guarded: Explorer) -> None:
    """Scripts cannot read the cookie, and other sites send it only when a link to the pages is followed."""
    with httpx.Client() as client:
        response = client.get(f"{guarded.url}/generate?token={token_of(guarded)}&seed=3")
        assert response.status_code == 303
        assert response.headers["location"] == "/generate?seed=3"
        assert "HttpOnly" in response.headers["set-cookie"]
        assert "SameSite=lax" in response.headers["set-cookie"]
        assert client.get(f"{guarded.url}/generate").status_code == 200
        cookie = f"partedvae_explore_{urlsplit(guarded.url).port}={token_of(guarded)}"
    assert websocket_status(guarded.url, Cookie=cookie) == 101


def test_the_link_leads_to_no_other_host(guarded: Explorer) -> None:
    response = httpx.get(f"{guarded.url}//example.org/?token={token_of(guarded)}")
    assert response.headers["location"] == "/example.org/"


def test_tokens_of_a_file(tmp_path: Path) -> None:
    """They are required on loopback too, and are not printed."""
    tokens = tmp_path / "tokens"
    tokens.write_text("# visitors\nfirst-token\n")
    tokens.chmod(0o600)

    accepts, printed = new_token("127.0.0.1:8080", tokens)

    assert accepts is not None
    assert (accepts("first-token"), accepts("second-token"), printed) == (True, False, "")
    assert new_token("127.0.0.1:8080", None) == (None, "")


def test_other_hosts_are_refused_on_loopback(grey_explorer: Explorer) -> None:
    """A name of another site that resolves to this machine reads nothing."""
    response = httpx.get(f"{grey_explorer.url}/generate", headers={"Host": "rebound.example:80"})

    assert response.status_code == 403
    assert "host 'rebound.example:80' is not one of" in response.text
    port = urlsplit(grey_explorer.url).port
    assert httpx.get(f"{grey_explorer.url}/generate", headers={"Host": f"localhost:{port}"}).status_code == 200


def test_pages_of_other_origins_are_refused(grey_explorer: Explorer) -> None:
    """For the websocket, and for its long-polling requests."""
    assert websocket_status(grey_explorer.url) == 101
    assert websocket_status(grey_explorer.url, Origin=grey_explorer.url) == 101
    assert websocket_status(grey_explorer.url, Origin="http://example.org") == 403
    assert websocket_status(grey_explorer.url, Origin="null") == 403
    response = httpx.get(grey_explorer.url + PATHS[-1], headers={"Origin": "http://example.org"})
    assert (response.status_code, "access-control-allow-origin" in response.headers) == (403, False)


def test_other_sites_load_nothing(grey_explorer: Explorer) -> None:
    """Neither pictures nor frames, for which browsers send no Origin; a link that is followed opens a page."""

    def status(site: str, mode: str, dest: str) -> int:
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        return httpx.get(f"{grey_explorer.url}/generate.png", headers=headers).status_code

    for site in ("cross-site", "same-site"):
        assert status(site, "no-cors", "image") == 403
        assert status(site, "navigate", "iframe") == 403
        assert status(site, "navigate", "document") == 200
    assert status("same-origin", "no-cors", "image") == 200
    assert status("none", "navigate", "document") == 200


def test_large_requests_are_refused(grey_explorer: Explorer) -> None:
    """Before their body is read, and those that do not state their size."""
    address = urlsplit(grey_explorer.url)
    assert address.hostname
    with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
        lines = ("POST /generate.png HTTP/1.1", f"Host: {address.netloc}", f"Content-Length: {65 * 2**20}")
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = connection.recv(4096).decode()
        answer += connection.recv(4096).decode() if "limit" not in answer else ""
    assert answer.startswith("HTTP/1.1 413 ")
    assert "more than the limit of 67,108,864" in answer

    def chunks() -> Iterator[bytes]:
        yield b"x"

    assert httpx.post(f"{grey_explorer.url}/generate.png", content=chunks()).status_code == 411


def test_pages_load_from_this_origin_only(grey_explorer: Explorer) -> None:
    """The headers forbid other origins, and frames."""
    policy = httpx.get(f"{grey_explorer.url}/generate").headers["content-security-policy"]

    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy

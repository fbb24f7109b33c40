"""Who may use the pages: checks of token, host and origin, and the headers that bind a browser to this server."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, unquote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from partedvae.serving.explore.integers import integer_of

COOKIE = "partedvae_explore"
TOKEN_PARAMETER = "token"
POLICY = "; ".join(
    (
        "default-src 'self'",
        # NiceGUI's pages have their start in the page itself, and Vue compiles their templates.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: a page loads nothing from elsewhere, and is shown in no other page."""
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_DENIED = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>401 - PartedVAE</title><body style="font: 16px/1.6 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto;
padding: 0 1rem; color-scheme: light dark"><h1>A token is required</h1>
<p>{reason} Open the link that <code>partedvae explore</code> printed, or enter a token of its token file.</p>
<form><label>Token <input name="token" type="password" autocomplete="off" required autofocus></label>
<button>Open</button></form></body></html>"""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a request must have."""

    hosts: frozenset[str] = frozenset()
    """Names that the Host header may have, without the port; empty for any. They keep a page of another site, whose
    name was made to resolve to this machine, from reading what is served without a token."""
    accepts: Callable[[str], bool] | None = None
    """Whether a token is right; None where none is needed."""
    cookie: str = COOKIE
    """Name of the cookie that keeps the token; browsers share cookies among the ports of a host."""


def accepts_only(token: str) -> Callable[[str], bool]:
    """Return the check of a single token, in constant time."""
    return lambda sent: hmac.compare_digest(sent.encode(), token.encode())


class AccessMiddleware:
    """Refuses requests, for pages, pictures, files and the websocket alike, that the rules do not allow."""

    def __init__(self, app: ASGIApp, *, rules: Rules, max_bytes: Callable[[], int]) -> None:
        """Wrap an application.

        Args:
            app: the application.
            rules: what a request must have.
            max_bytes: returns the largest body of a request.
        """
        self._app = app
        self._rules = rules
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do so."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        """Return what a request is answered with in place of the application; None where it is allowed."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._rules.hosts and _name(host) not in self._rules.hosts:
            allowed = ", ".join(sorted(self._rules.hosts))
            return PlainTextResponse(f"host {host!r} is not one of {allowed}; open the URL that was printed", 403)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return PlainTextResponse(f"requests of pages of {origin!r} are refused", 403)
        if _is_from_another_site(headers):
            return PlainTextResponse("requests of pages of other sites are refused; open this URL in a tab", 403)
        if (answer := self._check_token(scope, headers)) is not None:
            return answer
        return self._check_size(scope, headers)

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        accepts = self._rules.accepts
        if accepts is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get(TOKEN_PARAMETER)
        if given is not None and scope["type"] == "http" and scope["method"] == "GET":
            if not accepts(given):
                return HTMLResponse(_DENIED.format(reason="The token is wrong."), 401)
            # Without the token, so that it is in no history and in no header.
            rest = urlencode([(name, value) for name, value in query if name != TOKEN_PARAMETER])
            path = "/" + scope["path"].lstrip("/")  # Two slashes would lead to another host.
            moved = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            moved.set_cookie(
                self._rules.cookie,
                quote(given, safe=""),
                httponly=True,
                # Not strict: browsers leave such a cookie out of the redirect when the link is on another site's page.
                samesite="lax",
                secure=scope["scheme"] == "https",
            )
            return moved
        if _accepted_token(headers, self._rules.cookie, accepts):
            return None
        return HTMLResponse(_DENIED.format(reason="This page needs a token."), 401)

    def _check_size(self, scope: Scope, headers: Headers) -> Response | None:
        if scope["type"] != "http":
            return None
        if "transfer-encoding" in headers:
            return PlainTextResponse("send a Content-Length", 411)
        limit, size = self._max_bytes(), integer_of(headers.get("content-length", "0"))
        if size is None:
            return PlainTextResponse("the Content-Length is no number of bytes", 400)
        if size > limit:
            return PlainTextResponse(f"{size} bytes are more than the limit of {limit:,}; send a smaller image", 413)
        return None


def _is_from_another_site(headers: Headers) -> bool:
    """Return whether a page of another site, or of another port of this host, loads something here.

    Browsers send no Origin with GET requests for images, scripts and frames. A link that a visitor follows is no such
    request.
    """
    if headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) != ("navigate", "document")


def _accepted_token(headers: Headers, cookie: str, accepts: Callable[[str], bool]) -> bool:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and accepts(bearer.strip()):
        return True
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", ""))
    except CookieError:
        return False
    return cookie in cookies and accepts(unquote(cookies[cookie].value))


def _name(host: str) -> str:
    """Return the host of a Host header without its port; IPv6 in brackets."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower()


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return sending

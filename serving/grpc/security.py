"""Who may call: TLS, mutual TLS, and bearer tokens from a file; certificates and tokens may change while it runs."""

from __future__ import annotations

import hmac
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from partedvae.serving.errors import SecurityError
from partedvae.serving.grpc.interceptor import NO_REPLIES

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""How often, at most, a file is looked at for changes."""
OPEN_METHODS = "/grpc.health.v1.Health/"
"""Health is answered without a token: probes of Kubernetes cannot send one. Reflection needs one."""
DENIAL = 'send a token of the server\'s token file as metadata, "authorization: Bearer TOKEN"'

Stamp = tuple[int, int, int]


class Certificates:
    """The server's certificate, key and the clients' authority, read again when the files change."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Read and check the files.

        Raises:
            SecurityError: one cannot be read, or certificate and key do not belong together.
        """
        self._files = (certificate, key, *([client_ca] if client_ca else []))
        self._mutual = client_ca is not None
        self._stamps = _stamps(self._files)
        self._configuration = self._read()
        self._looked = time.monotonic()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for a port; new connections get the certificate of the day."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._changed,  # type: ignore[arg-type]  # None means no change, which the stubs do not know
            self._mutual,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what new connections get when the files have changed; called by gRPC for each, in its own threads."""
        if time.monotonic() - self._looked < CHECK_SECONDS:
            return None
        self._looked = time.monotonic()
        try:
            stamps = _stamps(self._files)
            if stamps == self._stamps:
                return None
            self._stamps = stamps
            self._configuration = self._read()
        except SecurityError as error:
            logger.error("going on with the certificate in use: %s", error)
            return None
        logger.info("the certificate in %s was read again", self._files[0])
        return self._configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *client_ca = self._files
        contents = [_read(file) for file in self._files]
        # gRPC would only say, to a log of its own and at each connection, that a handshake failed.
        checker = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            checker.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise SecurityError(
                f"{certificate} and {key} are not a certificate and its unencrypted private key in PEM: {error}"
            ) from error
        if client_ca:
            try:
                checker.load_verify_locations(client_ca[0])
            except ssl.SSLError as error:
                raise SecurityError(f"{client_ca[0]} holds no certificates in PEM: {error}") from error
        return grpc.ssl_server_certificate_configuration(
            [(contents[1], contents[0])], root_certificates=contents[2] if client_ca else None
        )


class TokenFile:
    """The tokens of a file: one a line, empty lines and those that begin with # skipped. Read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SecurityError: it cannot be read, has no token, or a line that is none.
        """
        self._path = path
        self._stamps = _stamps([path])
        self._tokens = self._read()
        self._looked = time.monotonic()

    def accepts(self, authorization: str | bytes) -> bool:
        """Tell whether a value of the metadata "authorization" is "Bearer TOKEN" with a token of the file.

        Takes as long for a wrong token as for a right one.
        """
        self._look()
        scheme, _, token = (
            authorization if isinstance(authorization, str) else authorization.decode("ascii", "replace")
        ).partition(" ")
        sent = token.strip().encode("utf-8")
        found = False
        for known in self._tokens:
            found |= hmac.compare_digest(sent, known)
        return found and scheme.lower() == "bearer"

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < CHECK_SECONDS:
            return
        self._looked = now
        try:
            stamps = _stamps([self._path])
            if stamps == self._stamps:
                return
            self._stamps = stamps
            self._tokens = self._read()
        except SecurityError as error:
            logger.error("going on with the tokens in use: %s", error)
        else:
            logger.info("%d tokens were read again from %s", len(self._tokens), self._path)

    def _read(self) -> list[bytes]:
        tokens = []
        for number, line in enumerate(_read(self._path).splitlines(), start=1):
            token = line.strip()
            if not token or token.startswith(b"#"):
                continue
            if not all(33 <= byte <= 126 for byte in token):
                # The line itself is not shown: it may be a token with a mistake in it.
                raise SecurityError(
                    f"line {number} of {self._path} is no token: write one a line, printable ASCII without spaces"
                )
            tokens.append(token)
        if not tokens:
            raise SecurityError(f"{self._path} holds no token: write one a line, or leave --token-file out")
        return tokens


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets only those pass who send a token, before anything of their request is read."""

    def __init__(self, tokens: TokenFile) -> None:
        """Take the tokens."""
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler, or one that refuses."""
        if handler_call_details.method.startswith(OPEN_METHODS):
            return await continuation(handler_call_details)
        for key, value in handler_call_details.invocation_metadata or ():
            if key == "authorization":
                return await continuation(handler_call_details) if self._tokens.accepts(value) else _WRONG
        return _MISSING


def _refusal(what: str) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        for reply in NO_REPLIES:
            yield reply
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{what}: {DENIAL}")

    # A handler of streams answers calls of every kind, and does not wait for the request.
    return grpc.stream_stream_rpc_method_handler(refuse)


_MISSING = _refusal("no token")
_WRONG = _refusal("the token is not one that this server knows")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(f"cannot read {path}: {error.strerror}") from error


def _stamps(paths: tuple[Path, ...] | list[Path]) -> list[Stamp]:
    try:
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in map(os.stat, paths)]
    except OSError as error:
        raise SecurityError(f"cannot read {error.filename}: {error.strerror}") from error

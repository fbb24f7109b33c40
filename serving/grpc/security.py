"""Authentication: TLS, mutual TLS, and bearer tokens from a file. All files are reloaded when they change."""

from __future__ import annotations

import hmac
import logging
import os
import ssl
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from partedvae.common.text_files import TextError, decode_text
from partedvae.serving.errors import SecurityError

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Minimum time between two checks of a file for changes."""
OPEN_METHODS = "/grpc.health.v1.Health/"
"""Health checks need no token, because Kubernetes probes cannot send one. Reflection needs one."""
DENIAL = 'send a token of the server\'s token file as metadata, "authorization: Bearer TOKEN"'

Stamp = tuple[int, int, int, int]
T = TypeVar("T")


class _UnreadableError(SecurityError):
    """A file cannot be read, which may pass: while it is replaced, or until its permissions are corrected."""


class _Reloaded(Generic[T]):
    """What was read from files, and is read again when they have changed; in any thread."""

    def __init__(self, files: Sequence[Path], read: Callable[[], T], name: str) -> None:
        """Read the files.

        Args:
            files: the files.
            read: returns what they contain; raises `SecurityError`.
            name: what they contain, for the log.

        Raises:
            SecurityError: they cannot be used.
        """
        self._files = files
        self._read = read
        self._name = name
        self._stamps = _stamps(files)
        self.value = read()
        self._checked_at = time.monotonic()
        self._failure = ""

    def reload(self) -> bool:
        """Read the files again if they have changed; return whether there is a new value.

        Where that fails, the value is kept, and files that could not be read are tried again.
        """
        now = time.monotonic()
        if now - self._checked_at < CHECK_SECONDS:
            return False
        self._checked_at = now
        try:
            stamps = _stamps(self._files)
            if stamps == self._stamps:
                self._failure = ""
                return False
            self.value = self._read()
        except SecurityError as error:
            if not isinstance(error, _UnreadableError):
                self._stamps = stamps
            if str(error) != self._failure:
                self._failure = str(error)
                logger.error("keeping the current %s: %s", self._name, error)
            return False
        self._stamps, self._failure = stamps, ""
        return True


class Certificates:
    """The server's certificate and key, and the authority of client certificates; reloaded when the files change."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """Read and check the files.

        Args:
            certificate: certificate chain, PEM.
            key: private key of the certificate, PEM, not encrypted.
            client_ca: certificates that sign client certificates, PEM; None accepts clients without a certificate.

        Raises:
            SecurityError: a file cannot be read, or the key does not belong to the certificate.
        """
        self._files = (certificate, key, *([client_ca] if client_ca else []))
        self._mutual = client_ca is not None
        self._configuration = _Reloaded(self._files, self._read, "certificate")
        _warn_if_exposed(key)

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a port; new connections use the current certificate."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration.value,
            self._changed,  # type: ignore[arg-type]  # the stubs omit None, which means no change
            self._mutual,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration if the files have changed. gRPC calls it per connection, in its own threads."""
        if not self._configuration.reload():
            return None
        logger.info("reloaded the certificate %s", self._files[0])
        return self._configuration.value

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *client_ca = self._files
        contents = [_read(file) for file in self._files]
        # gRPC only logs a failed handshake, per connection and in its own log.
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
    """The tokens of a file, one per line; empty lines and lines that start with # are ignored. Reloaded on change."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SecurityError: it cannot be read, contains no token, or has a line that is not a token.
        """
        self._path = path
        self._tokens = _Reloaded([path], self._read, "tokens")
        _warn_if_exposed(path)

    def accepts(self, authorization: str | bytes) -> bool:
        """Report whether a value of the metadata "authorization" is "Bearer TOKEN" with a token of the file.

        The comparison takes constant time.
        """
        if self._tokens.reload():
            logger.info("reloaded %d tokens from %s", len(self._tokens.value), self._path)
        scheme, _, token = (
            authorization if isinstance(authorization, str) else authorization.decode("ascii", "replace")
        ).partition(" ")
        sent = token.strip().encode("utf-8")
        found = False
        for known in self._tokens.value:
            found |= hmac.compare_digest(sent, known)
        return found and scheme.lower() == "bearer"

    def denial(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Return why a call is not allowed; empty if it is.

        Args:
            method: full name of its method, "/package.Service/Method".
            metadata: what the client has sent.
        """
        if method.startswith(OPEN_METHODS):
            return ""
        values = [value for key, value in metadata if key == "authorization"]
        if not values:
            return f"no token: {DENIAL}"
        # All of several: a proxy in front may look at another one than this server.
        if all(self.accepts(value) for value in values):
            return ""
        return f"the token is not one that this server knows: {DENIAL}"

    def _read(self) -> list[bytes]:
        try:
            text = decode_text(_read(self._path), errors="replace")  # What is replaced is not a token.
        except TextError as error:
            raise SecurityError(f"{self._path} cannot be read as text: {error}") from error
        tokens = []
        for number, line in enumerate(text.encode().splitlines(), start=1):
            token = line.strip()
            if not token or token.startswith(b"#"):
                continue
            if not all(33 <= byte <= 126 for byte in token):
                # The line is not shown: it may be a token with a typing error.
                raise SecurityError(
                    f"line {number} of {self._path} is not a token; write one per line, printable ASCII without spaces"
                )
            tokens.append(token)
        if not tokens:
            raise SecurityError(f"{self._path} contains no token; write one per line, or omit --token-file")
        return tokens


class TokenAuthInterceptor(grpc.aio.ServerInterceptor):
    """Rejects calls without a valid token, before their request is read."""

    def __init__(self, tokens: TokenFile, on_denied: Callable[[str], None]) -> None:
        """Create an interceptor.

        Args:
            tokens: the tokens that it accepts.
            on_denied: receives the full name of the method of each call that is denied, as the client has sent it.
        """
        self._tokens = tokens
        self._on_denied = on_denied

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the method, or one that denies the call."""
        metadata = handler_call_details.invocation_metadata or ()
        denial = self._tokens.denial(handler_call_details.method, metadata)
        if not denial:
            return await continuation(handler_call_details)
        self._on_denied(handler_call_details.method)
        return _denied(denial)


@cache
def _denied(reason: str) -> grpc.RpcMethodHandler[Any, Any]:
    async def deny(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)

    # A streaming handler can end calls of every kind, and does not wait for the request.
    return grpc.stream_stream_rpc_method_handler(deny)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _UnreadableError(f"cannot read {path}: {error.strerror}") from error


def _warn_if_exposed(path: Path) -> None:
    """Warn about a secret that every user of the machine can read or replace."""
    if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        logger.warning(
            "%s is open to every user of this machine: chmod o-rwx, or defaultMode 0440 of a Kubernetes secret", path
        )


def _stamps(paths: Sequence[Path]) -> list[Stamp]:
    try:
        # With ctime, which changes with the permissions too.
        return [(found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size) for found in map(os.stat, paths)]
    except OSError as error:
        raise _UnreadableError(f"cannot read {error.filename}: {error.strerror}") from error

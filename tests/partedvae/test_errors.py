from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from partedvae import errors
from partedvae.errors import PartedVAEError, from_rpc


class FailedCall(grpc.RpcError):
    """The exception of a failed call."""

    def __init__(self, status: grpc.StatusCode, details: str, trailer: Sequence[tuple[str, str | bytes]] = ()) -> None:
        self._status, self._details, self._trailer = status, details, trailer

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailer


@pytest.mark.parametrize(
    ("status", "details", "kind", "builtin", "message"),
    [
        ("INVALID_ARGUMENT", "image 3: GIF", errors.InvalidRequestError, ValueError, "image 3: GIF"),
        ("NOT_FOUND", "no model 'x'", errors.NotFoundError, LookupError, "no model 'x'"),
        ("RESOURCE_EXHAUSTED", "the queue is full", errors.OverloadedError, PartedVAEError, "the queue is full"),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused",
            errors.UnavailableError,
            ConnectionError,
            "no server answers at here:1 (Connection refused); start one with 'partedvae serve MODELS_DIR'",
        ),
        (
            "UNAVAILABLE",
            "errors resolving nowhere: [field:hostname lookup error:address lookup failed: Domain name not found]",
            errors.UnavailableError,
            ConnectionError,
            "no server answers at here:1 (Domain name not found); start one with 'partedvae serve MODELS_DIR'",
        ),
        (
            "UNAVAILABLE",
            "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
            "host: Connection refused",
            errors.UnavailableError,
            ConnectionError,
            "no server answers at here:1 (Connection refused); start one with 'partedvae serve MODELS_DIR'",
        ),
        (
            "CANCELLED",
            "Stream removed (Channel closed due to fork)",
            errors.UnavailableError,
            ConnectionError,
            "the connection to here:1 was closed because this process was forked",
        ),
        (
            "CANCELLED",
            "Stream removed",
            errors.UnavailableError,
            ConnectionError,
            "the server at here:1 did not accept the call (Stream removed); try again",
        ),
        (
            "UNAVAILABLE",
            "the server is stopping",
            errors.UnavailableError,
            ConnectionError,
            "the server at here:1 is not available: the server is stopping; try again",
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:1:1: Tls handshake failed (TSI_FAILURE): "
            "SSL_ERROR_SSL: error:1:SSL routines:OPENSSL_internal:NO_SHARED_CIPHER: OK",
            errors.UnavailableError,
            ConnectionError,
            "no secure connection to here:1 (NO_SHARED_CIPHER); check that the server uses TLS, that ca= signed its "
            "certificate for this name, and whether it requires cert= and key=",
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed",
            errors.UnavailableError,
            ConnectionError,
            "the connection to here:1 was closed; try again, with tls=True or ca= if the server uses TLS",
        ),
        (
            "UNAUTHENTICATED",
            "no token: send",
            errors.AuthenticationError,
            PermissionError,
            "no token: the server at here:1 requires one; pass token=",
        ),
        ("FAILED_PRECONDITION", "no scorer.onnx", errors.ModelError, PartedVAEError, "no scorer.onnx"),
        (
            "DEADLINE_EXCEEDED",
            "Deadline Exceeded",
            errors.DeadlineError,
            TimeoutError,
            "the server at here:1 did not answer in time; try again with a longer timeout=",
        ),
        (
            "INTERNAL",
            "see the log",
            errors.InternalError,
            PartedVAEError,
            "the server at here:1 failed with INTERNAL: see the log",
        ),
        (
            "UNIMPLEMENTED",
            "Method not found!",
            errors.InternalError,
            PartedVAEError,
            "the server at here:1 failed with UNIMPLEMENTED: Method not found!",
        ),
    ],
)
def test_every_status_has_its_exception(
    status: str, details: str, kind: type[Exception], builtin: type[Exception], message: str
) -> None:
    """Each status raises its exception, which is also a builtin one."""
    error = from_rpc(FailedCall(grpc.StatusCode[status], details), "here:1")

    assert type(error) is kind
    assert isinstance(error, PartedVAEError)
    assert isinstance(error, builtin)
    assert str(error) == message


@pytest.mark.parametrize(
    ("trailer", "seconds"),
    [
        ([("grpc-status-details-bin", b"..."), ("grpc-retry-pushback-ms", "1500")], 1.5),
        ([("grpc-retry-pushback-ms", "-1")], None),
        ([], None),
    ],
)
def test_overload_has_the_time_of_a_retry(trailer: Sequence[tuple[str, str | bytes]], seconds: float | None) -> None:
    """The server's advice in seconds; None where a retry would fail."""
    error = from_rpc(FailedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", trailer), "here:1")

    assert isinstance(error, errors.OverloadedError)
    assert error.retry_after == seconds

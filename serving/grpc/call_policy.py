"""How the calls of a service are limited, and who observes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from partedvae.serving.grpc.limiter import CallLimiter


class CallObserver(Protocol):
    """Receives the events of calls, for metrics. Called from any thread."""

    def rpc_started(self) -> None:
        """Record that a call started; `rpc_done` follows."""

    def rpc_done(self, method: str, code: str, seconds: float, images: int) -> None:
        """Record that a call ended.

        Args:
            method: name of the method without its service, "ExtractFeatures".
            code: name of the status, "OK".
            seconds: duration of the call.
            images: images that were sent or asked for; 0 unless the call succeeded.
        """


@dataclass(frozen=True, kw_only=True)
class CallPolicy:
    """How the calls of a service, or of one of its methods, are limited."""

    limiter: CallLimiter[Any]
    """Limit of concurrent calls."""
    max_message_bytes: int
    """Largest request. gRPC's own limit must be higher: the message of its error names no remedy."""
    max_images: int = 1
    """Images, or other entries, of a request."""
    is_done_when_answered: bool = False
    """Whether a reply is so small that its call needs no place until it is taken."""
    observer: CallObserver | None = None
    """Receives the events of calls."""

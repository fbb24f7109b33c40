"""Starts Ray on this machine or connects to a cluster, quietly: messages for a user are in the command's words."""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import grpc

from partedvae.common.click_errors import message_of
from partedvae.serving.errors import InstallationError, InvalidInputError, ServingError

# Before the import of Ray, like the telemetry of ONNX Runtime: a cluster that is started here reports to nobody.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's C++ code writes to standard error, also that actors depend on arguments which Ray Data itself keeps.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

try:
    import ray  # the variables must be set before
    import ray.data
    import ray.exceptions
except ImportError as error:
    raise InstallationError(
        f"--engine ray needs Ray, which cannot be imported ({error}): pip install 'partedvae[ray]'"
    ) from error

OBJECT_STORE_BYTES = 128 << 20
"""Shared memory of a Ray of this machine alone: it holds lists of images, not images, and Ray needs 75 MiB."""
CONNECT_SECONDS = 10.0
"""Ray itself would wait for a cluster for two minutes."""

__all__ = ["cluster_cpus", "ray", "ray_session"]

Say = Callable[[str], None]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DIED = re.compile(r"(?:worker|actor|node|[Tt]ask)\S* (?:with .* )?(?:died|was killed|killed due|has been marked dead)")


@contextmanager
def ray_session(address: str | None, cpus: int, say: Say) -> Iterator[None]:
    """Connect to Ray for the duration of the block.

    Args:
        address: "auto" or HOST:PORT of a cluster of which this machine is a part; None starts a Ray of this machine,
            which ends with the block.
        cpus: processors of that Ray; a cluster knows its own.
        say: receives lines on workers that died.

    Raises:
        InvalidInputError: there is no cluster at the address, or it is of another kind.
        ServingError: Ray cannot be started.
    """
    _check_address(address)
    notices = _Notices(say)
    # Ray prints messages of its daemons to standard output, which belongs to the summary.
    with warnings.catch_warnings(), redirect_stdout(notices):
        warnings.simplefilter("ignore")
        _connect(address, cpus)
        # Its tracebacks and statistics.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            ray.shutdown()


def cluster_cpus() -> list[int]:
    """Return the processors of each machine of the cluster, those that are in use included."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _connect(address: str | None, cpus: int) -> None:
    arguments: dict[str, Any] = {"address": address}
    if address is None:
        arguments = {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        # Ray listens on the network and obeys everyone with its token, which it would write to the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        with _without_stderr():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **arguments)
    except ConnectionError as error:
        raise InvalidInputError(
            f"--ray-address {address}: {_first_line(error)}; where the cluster requires a token, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    except (ray.exceptions.RayError, RuntimeError, ValueError) as error:
        raise ServingError(f"Ray cannot be started: {_first_line(error)}") from error


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Discard what Ray's C++ code writes to the descriptor of standard error, which it does while it starts."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _check_address(address: str | None) -> None:
    """Refuse an address at which there is no cluster, before Ray waits for it."""
    if address in (None, "auto"):
        return
    if "://" in address:
        raise InvalidInputError(
            f"--ray-address is {address}; pass HOST:PORT of the cluster's head, or 'auto', on a machine of the "
            "cluster, or submit the command as a job: ray job submit --address http://HEAD:8265 -- partedvae extract …"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInputError(f"--ray-address is {address!r}; pass HOST:PORT, such as 10.0.0.1:6379, or 'auto'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
                grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
    except (OSError, OverflowError, grpc.FutureTimeoutError) as error:
        reason = "it is no gRPC server" if isinstance(error, grpc.FutureTimeoutError) else message_of(error)
        raise InvalidInputError(
            f"--ray-address {address}: no Ray cluster answers there ({reason}); start one with 'ray start --head', or "
            "leave the option out to use this machine alone"
        ) from None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class _Notices(io.TextIOBase):
    """Standard output while Ray runs: passes on the first sentence of messages on workers that died."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for line in _COLOURS.sub("", text).splitlines():
            if _DIED.search(line):
                message = line.removeprefix("(raylet)").strip()
                self._say(f"Ray: {message.partition('. ')[0].rstrip('.')}; its part is done again")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()

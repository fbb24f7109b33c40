"""The front of a server: what receives calls and sends replies. Services, limits and errors do not depend on it.

- `grpcio`: gRPC's own server for asyncio. Does everything.
- `native`: receives bursts of calls without the event loop (package pygrpc-native, extra `native`): several times as
  many small calls per second. Has no TLS, and cannot bound the memory of requests that have not arrived.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

from partedvae.serving.config.serve_config import FrontName, ServeConfig
from partedvae.serving.errors import ConfigError

logger = logging.getLogger(__name__)

PACKAGE = "pygrpc_native"

AddServices = Callable[[Any], None]
"""Adds all services to a server of gRPC, or to what collects their methods."""


class Front(Protocol):
    """Receives calls from a bound address."""

    name: FrontName
    """"grpcio" or "native"."""

    async def start(self) -> str:
        """Bind the address, accept calls, and return the address with the port in use.

        Raises:
            AddressError: the address is in use, or not an address of this machine.
        """

    async def stop(self, grace: float) -> None:
        """End all connections, after at most `grace` seconds for active calls."""

    def watch_memory(self, excess: int, most: int) -> int:
        """Watch who holds the memory that is not reserved, and end the connections that hold most of it.

        Called in the guard's thread, at least every quarter of a second.

        Args:
            excess: bytes of the memory that are not reserved.
            most: bytes that it may be; above, connections are ended.

        Returns:
            How many connections were ended.
        """

    def held_memory(self) -> int:
        """Estimate the bytes that connections hold beside the calls that the guard knows, as last seen."""


def chosen_front(config: ServeConfig) -> FrontName:
    """Return the front to use: the configured one, or with "auto" the native one where it can do what is configured.

    Raises:
        ConfigError: the native front is required, and is not installed.
    """
    if config.front == "grpcio":
        return "grpcio"
    is_installed = find_spec(PACKAGE) is not None
    obstacles = config.obstacles_to_native()
    if config.front == "native":
        if not is_installed:
            raise ConfigError(
                "--front native needs the package pygrpc-native, which is not installed; install it with: "
                "pip install 'partedvae[serve,native]'"
            )
        return "native"
    if not is_installed:
        logger.info("using the front grpcio: the extra native is not installed")
        return "grpcio"
    if obstacles:
        logger.info("using the front grpcio: the native one cannot do %s", " and ".join(obstacles))
        return "grpcio"
    logger.info("using the front native")
    return "native"

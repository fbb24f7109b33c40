"""PartedVAE: class-related features of images from few labels. This is the face: the client and the command.

The public names load on first use, so that `partedvae --help` waits for neither numpy nor gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partedvae.aio import AsyncClient
    from partedvae.client import Client
    from partedvae.errors import (
        DeadlineError,
        InternalError,
        InvalidRequestError,
        NotFoundError,
        OverloadedError,
        PartedVAEError,
        UnavailableError,
    )
    from partedvae.results import FactorResult, Features, Generated, ModelDetails, ModelInfo

    __version__: str

__all__ = [
    "AsyncClient",
    "Client",
    "DeadlineError",
    "FactorResult",
    "Features",
    "Generated",
    "InternalError",
    "InvalidRequestError",
    "ModelDetails",
    "ModelInfo",
    "NotFoundError",
    "OverloadedError",
    "PartedVAEError",
    "UnavailableError",
    "__version__",
]

_RESULTS = ("FactorResult", "Features", "Generated", "ModelDetails", "ModelInfo")


def __getattr__(name: str) -> Any:
    """Load a public name on its first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("partedvae")
    elif name in __all__:
        value = getattr(importlib.import_module(_home_of(name)), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _home_of(name: str) -> str:
    if name in _RESULTS:
        return "partedvae.results"
    return {"Client": "partedvae.client", "AsyncClient": "partedvae.aio"}.get(name, "partedvae.errors")

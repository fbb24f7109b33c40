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
        AuthenticationError,
        DeadlineError,
        InternalError,
        InvalidRequestError,
        ModelError,
        NotFoundError,
        OverloadedError,
        PartedVAEError,
        UnavailableError,
    )
    from partedvae.image_results import Generated, Transferred, Traversal, TraversalRow
    from partedvae.results import FactorResult, FeatureChunk, Features, ImageProblem, ModelDetails, ModelInfo

    __version__: str

__all__ = [
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "DeadlineError",
    "FactorResult",
    "FeatureChunk",
    "Features",
    "Generated",
    "ImageProblem",
    "InternalError",
    "InvalidRequestError",
    "ModelDetails",
    "ModelError",
    "ModelInfo",
    "NotFoundError",
    "OverloadedError",
    "PartedVAEError",
    "Transferred",
    "Traversal",
    "TraversalRow",
    "UnavailableError",
    "__version__",
]

_RESULTS = ("FactorResult", "FeatureChunk", "Features", "ImageProblem", "ModelDetails", "ModelInfo")
_IMAGE_RESULTS = ("Generated", "Transferred", "Traversal", "TraversalRow")


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
    if name in _IMAGE_RESULTS:
        return "partedvae.image_results"
    return {"Client": "partedvae.client", "AsyncClient": "partedvae.aio"}.get(name, "partedvae.errors")

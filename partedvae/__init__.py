"""PartedVAE: class-related features of images from few labels. This package is the client and the command.

The public names load on first use, so that `partedvae --help` imports neither NumPy nor gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from partedvae import forks

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
    from partedvae.familiarity import UnfamiliarImageWarning
    from partedvae.image_results import Generated, Transferred, Traversal, TraversalRow
    from partedvae.model_results import ModelDetails, ModelInfo
    from partedvae.packing import RequestLimits
    from partedvae.results import FactorResult, FeatureChunk, Features, ImageProblem

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
    "RequestLimits",
    "Transferred",
    "Traversal",
    "TraversalRow",
    "UnavailableError",
    "UnfamiliarImageWarning",
    "__version__",
]

_MODULES = {
    "aio": ("AsyncClient",),
    "client": ("Client",),
    "errors": (
        "AuthenticationError",
        "DeadlineError",
        "InternalError",
        "InvalidRequestError",
        "ModelError",
        "NotFoundError",
        "OverloadedError",
        "PartedVAEError",
        "UnavailableError",
    ),
    "familiarity": ("UnfamiliarImageWarning",),
    "image_results": ("Generated", "Transferred", "Traversal", "TraversalRow"),
    "model_results": ("ModelDetails", "ModelInfo"),
    "packing": ("RequestLimits",),
    "results": ("FactorResult", "FeatureChunk", "Features", "ImageProblem"),
}
_MODULE_OF = {name: f"partedvae.{module}" for module, names in _MODULES.items() for name in names}

forks.enable()  # Here, because gRPC reads it when any module imports gRPC for the first time.


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("partedvae")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

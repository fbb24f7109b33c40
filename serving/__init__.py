"""The gRPC server for exported models, and their use without a server.

Example:
    >>> from partedvae.serving import load
    >>> model = load("models/mnist")  # doctest: +SKIP
    >>> model.features(["a.png", "b.png"]).classes  # doctest: +SKIP

`load` and `LocalModel` are imported on first use, so that importing this package loads neither ONNX Runtime nor Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partedvae.serving.local import LocalModel, load

__all__ = ["LocalModel", "load"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from partedvae.serving import local

    value = globals()[name] = getattr(local, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Fixtures of training's tests. Shapes in annotations are checked at run time while these tests run."""

from __future__ import annotations

import pytest
from jaxtyping import install_import_hook

# Before any module of training is imported: the hook wraps functions as they are defined.
install_import_hook("partedvae.training", "beartype.beartype")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Give every test the same random numbers, and one thread: the toy networks are too small for two."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)

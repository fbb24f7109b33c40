"""What is set in the allocator of the C library, of which there are several, and versions that refuse some values."""

from __future__ import annotations

import os
import sys

import pytest

from partedvae.common import allocator
from partedvae.common.allocator import LARGEST, keep_freed_blocks, resident_memory, trim

MIB = 1 << 20


class Library:
    """A C library that records calls of mallopt, and refuses thresholds above a limit."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.calls: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return int(parameter != allocator.M_MMAP_THRESHOLD or value <= self.largest)


@pytest.mark.parametrize(
    ("largest", "unused", "calls"),
    [
        (1 << 40, None, [(-3, 64 * MIB)]),
        (1 << 40, 5 * MIB, [(-3, 64 * MIB), (-1, 5 * MIB)]),
        (LARGEST, 5 * MIB, [(-3, 64 * MIB), (-3, 32 * MIB), (-1, 5 * MIB)]),
    ],
)
def test_thresholds_are_set(
    largest: int, unused: int | None, calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(largest)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    keep_freed_blocks(64 * MIB, unused)
    assert library.calls == calls


@pytest.mark.parametrize("error", [None, OSError("no such file"), TypeError("a name is needed")])
def test_other_systems_are_left_alone(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as macOS, which has no mallopt, and Windows, which has no library of this name."""

    def load(name: None) -> object:
        if error is not None:
            raise error
        return object()

    monkeypatch.setattr("ctypes.CDLL", load)
    keep_freed_blocks(MIB)
    trim()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_resident_memory_grows_with_what_is_allocated() -> None:
    before = resident_memory()
    block = bytearray(os.urandom(1)) * (64 * MIB)
    assert resident_memory() - before > 48 * MIB
    del block

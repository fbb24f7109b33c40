"""Codes of a small factor grid with known scores: perfect, rotated, collapsed, duplicated, random."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float, Int

SIZES = (2, 4, 8, 16)
NAMES = ("two", "four", "eight", "sixteen")


def grid(sizes: tuple[int, ...] = SIZES, copies: int = 4) -> Int[np.ndarray, "images factors"]:
    """Return every combination of factor values, as often as `copies`, the last factor changing fastest."""
    values: Int[np.ndarray, "images factors"] = np.array(list(itertools.product(*map(range, sizes))))
    return values.repeat(copies, axis=0)


def perfect(values: Int[np.ndarray, "images factors"]) -> Float[np.ndarray, "images dims"]:
    """Return one dimension per factor: its standardised value."""
    code: Float[np.ndarray, "images dims"] = (values - values.mean(axis=0)) / values.std(axis=0)
    return code.astype(np.float32)


def rotated(values: Int[np.ndarray, "images factors"]) -> Float[np.ndarray, "images dims"]:
    """Return four dimensions with equal shares of four factors (a Hadamard matrix divided by two)."""
    signs = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    code: Float[np.ndarray, "images dims"] = perfect(values) @ (signs / 2)
    return code.astype(np.float32)


def turned(values: Int[np.ndarray, "images factors"], degrees: float) -> Float[np.ndarray, "images dims"]:
    """Return the perfect code of two factors, turned by an angle."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    code: Float[np.ndarray, "images dims"] = perfect(values) @ np.array([[cos, sin], [-sin, cos]])
    return code.astype(np.float32)


def collapsed(values: Int[np.ndarray, "images factors"]) -> Float[np.ndarray, "images dims"]:
    """Return four dimensions that are the same for all images."""
    return np.full((len(values), 4), 0.3, dtype=np.float32)


def duplicated(values: Int[np.ndarray, "images factors"]) -> Float[np.ndarray, "images dims"]:
    """Return two equal dimensions per factor."""
    return np.concatenate([perfect(values), perfect(values)], axis=1)


def unrelated(values: Int[np.ndarray, "images factors"], seed: int = 7) -> Float[np.ndarray, "images dims"]:
    """Return five dimensions of noise."""
    return np.random.default_rng(seed).normal(size=(len(values), 5)).astype(np.float32)


def blurred(values: Int[np.ndarray, "images factors"], seed: int = 8) -> Float[np.ndarray, "images dims"]:
    """Return a code between perfect and rotated, with noise, of different scales, and with one weak dimension."""
    rng = np.random.default_rng(seed)
    mixed = 0.45 * perfect(values) + rotated(values) + 0.7 * rng.normal(size=values.shape)
    weak = 0.07 * rng.normal(size=(len(values), 1))
    return np.concatenate([mixed * np.array([1, 0.5, 3, 1]), weak], axis=1).astype(np.float32)

"""Tests of `partedvae.serving.manifest`: manifests that cannot be read, and those of models that cannot be served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partedvae.serving.errors import BundleError
from partedvae.serving.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, read_manifest
from tests.bundles import GREY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return GREY.write(tmp_path / "tiny").folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid manifest"),
        (b"[]", "has format version 0, this version of partedvae supports 1 to 2"),
        (b"5", "not a valid manifest"),
        (b"null", "not a valid manifest"),
        (b"\xff{}", "is not text in UTF-8"),
        (b"[" * 2_000_000, "not a valid manifest"),
        (b'{"a":' * 100_000, "not a valid manifest"),
        (b'{"factors": [{"name": "\\ud800"}]}', "not a valid manifest"),
        (b'{"format_version": ' + b"9" * 5000 + b"}", "not a valid manifest"),
        (b'{"format_version": 4294967296}', "not a valid manifest"),
        (b"{}" + b" " * MAX_MANIFEST_BYTES, "has 4,194,306 bytes, the limit is 4,194,304"),
        (b'{"format_version": 1}', "has no factors or no image size"),
    ],
)
def test_files_that_are_no_manifest(folder: Path, content: bytes, message: str) -> None:
    (folder / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=rf"manifest\.json.*{message}"):
        read_manifest(folder)


Edit = Callable[[dict[str, Any]], object]

EDITS: dict[str, tuple[Edit, str]] = {
    "huge images": (lambda m: m["image"].update(height=2**32 - 1, width=2**32 - 1), "4294967295x4294967295 pixels"),
    "images a little too large": (
        lambda m: m["image"].update(height=4096, width=4097),
        "images of 4096x4097 pixels .* the limits are 1 or 3 channels and 16,777,216 values",
    ),
    "no pixels": (lambda m: m["image"].update(height=0), "images of 0x6 pixels"),
    "four channels": (lambda m: m["image"].update(channels=4), "with 4 channels"),
    "many classes": (
        lambda m: m["factors"][0].update(class_names=[f"{i}" for i in range(100_000)]),
        "100,014 probabilities, means and log-variances per image are above the limit of 65,536",
    ),
    "much z": (lambda m: m.update(z_dim=2**32 - 1), "per image are above the limit"),
    "much u": (lambda m: m["factors"][0].update(u_dim=2**32 - 1), "per image are above the limit"),
    "a factor twice": (lambda m: m["factors"].append(m["factors"][0]), "names of the factors are not unique"),
    "a factor without a name": (lambda m: m["factors"][0].update(name=""), "or one is empty"),
    "a class twice": (
        lambda m: m["factors"][0]["class_names"].__setitem__(1, "0"),
        "two classes of factor 'digit' have one name",
    ),
    "NaN": (lambda m: m["factors"][0]["prior_probs"].__setitem__(0, "NaN"), "priors of factor 'digit' are not finite"),
    "infinite": (lambda m: m["factors"][0]["prior_means"].__setitem__(0, "Infinity"), "are not finite"),
    "negative": (lambda m: m["factors"][0]["prior_probs"].__setitem__(0, -0.5), "prior_probs are no probabilities"),
    "zeros": (lambda m: m["factors"][0].update(prior_probs=[0.0] * 10), "prior_probs are no probabilities"),
    "few priors": (lambda m: m["factors"][0]["prior_means"].pop(), r"and \(10, 29, 30\) values of prior_probs"),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS)
def test_models_that_cannot_be_served(folder: Path, edit: Edit, message: str) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    edit(manifest)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=rf"manifest\.json.*{message}"):
        read_manifest(folder)

"""What makes two extractions the same: only then may one continue the other.

It is written into the footer of every part and of the result, as texts whose keys begin with `partedvae.`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from partedvae.serving.bundle import ENCODER_FILE, INT8_ENCODER_FILE, SCORER_FILE
from partedvae.serving.extract.layout import Layout
from partedvae.serving.extract.output.shards import Plan
from partedvae.v1.manifest_pb2 import Manifest

PREFIX = "partedvae."
_SCORED = {"negative_elbo", "reconstruction_error", "unfamiliar"}
"""Columns for which the scorer is run."""


@dataclass(frozen=True)
class Identity:
    """Texts that identify an extraction."""

    texts: Mapping[str, str]
    """By key, with the prefix."""

    def differences(self, other: Mapping[str, str]) -> list[str]:
        """Return how the texts of an earlier output differ, in words of the command line; empty if they are the same.

        Args:
            other: the earlier output's.
        """
        now = {key.removeprefix(PREFIX): value for key, value in self.texts.items()}
        was = {key.removeprefix(PREFIX): value for key, value in other.items()}
        if "input_sha256" not in was:
            return ["it was not written by this command, or by an earlier version of it"]
        changed = {key for key in now if key not in _RECORDED and now[key] != was.get(key, "")}
        if not (was.get("scorer_sha256") and now["scorer_sha256"]):
            changed.discard("scorer_sha256")  # It is run for some columns only, which --include says.
        if "precision" in changed:
            changed.discard("encoder_sha256")  # That of the other precision.
        if "input_sha256" in changed:
            # Both follow from the input.
            changed -= {"rows", "rows_per_part", "columns"}
        if changed & {"model", "version"}:
            changed = (changed - _OF_BUNDLE) | {"model"}
        elif changed & _OF_BUNDLE:
            changed = (changed - _OF_BUNDLE) | {"manifest_sha256"}
        return [_DESCRIBED[key](was, now) for key in now if key in changed]


def manifest_hash(manifest: Manifest) -> str:
    """Return the SHA-256 of a manifest, which has those of the graphs: a model's features are those of one hash."""
    return hashlib.sha256(manifest.SerializeToString(deterministic=True)).hexdigest()


def identity_of(
    *,
    model: str,
    version_: int,
    manifest: Manifest,
    precision: str,
    layout: Layout,
    input_sha256: str,
    plan: Plan,
    path_style: str,
    output_format: str,
    given: str = "",
) -> Identity:
    """Return what identifies an extraction.

    Args:
        model: name of the model.
        version_: its version.
        manifest: its manifest; the hashes do not depend on whether it came from a server.
        precision: numbers that the encoder computes with.
        layout: columns of the output.
        input_sha256: hash of the list of images.
        plan: the parts.
        path_style: how paths are written.
        output_format: of the output, "parquet".
        given: INPUT of the command, without credentials, for the record.
    """
    hashes = {file.name: file.sha256 for file in manifest.files}
    scored = bool(_SCORED & set(layout.include))
    factors = [
        {"name": factor.name, "u_dim": factor.u_dim, "classes": list(factor.class_names)} for factor in manifest.factors
    ]
    texts = {
        "model": model,
        "version": str(version_),
        "manifest_sha256": manifest_hash(manifest),
        "encoder_sha256": hashes.get(ENCODER_FILE if precision == "fp32" else INT8_ENCODER_FILE, ""),
        "scorer_sha256": hashes.get(SCORER_FILE, "") if scored else "",
        "precision": precision,
        "code_version": version("partedvae"),
        "input_sha256": input_sha256,
        "rows": str(plan.rows),
        "rows_per_part": str(plan.rows_per_part),
        "columns": ",".join(layout.columns.names),
        "include": ",".join(layout.include),
        "vectors": "on" if layout.vectors else "off",
        "path_style": path_style,
        "format": output_format,
        "factors": json.dumps(factors),
        "recipe": manifest.training.recipe,
        "labels_used": str(manifest.training.labels_used),
        "input": given,
    }
    return Identity({PREFIX + key: value for key, value in texts.items()})


_Texts = Mapping[str, str]
_RECORDED = {"code_version", "factors", "recipe", "labels_used", "input"}
"""Texts that are written and not compared."""
_OF_BUNDLE = {"model", "version", "manifest_sha256", "encoder_sha256", "scorer_sha256"}


def _images(was: _Texts, now: _Texts) -> str:
    before, after = f"{int(was['rows']):,}", f"{int(now['rows']):,}"
    if before != after:
        return f"the list of images changed: there were {before} images, and are {after} now"
    return "the list of images changed: other names, sizes or dates, or another folder"


def _option(key: str) -> Callable[[_Texts, _Texts], str]:
    name = f"--{key.replace('_', '-')}"
    return lambda was, now: f"{name} was {was.get(key, '')}, now {now[key]}"


_DESCRIBED: dict[str, Callable[[_Texts, _Texts], str]] = {
    "model": lambda was, now: (
        f"the model was version {was['version']} of {was['model']}, now version {now['version']} of {now['model']}"
    ),
    "manifest_sha256": lambda was, now: f"version {now['version']} of the model {now['model']} was exported again",
    "input_sha256": _images,
    "rows": _images,
    "columns": lambda was, now: (
        f"the input's columns that are passed on were [{was.get('columns', '')}], now [{now['columns']}]"
    ),
    **{key: _option(key) for key in ("precision", "rows_per_part", "include", "vectors", "path_style", "format")},
}

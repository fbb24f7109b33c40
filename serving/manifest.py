"""Reads the manifest of a bundle, and checks that a server can work with it."""

from __future__ import annotations

import math
from pathlib import Path, PurePath

from google.protobuf import json_format

from partedvae.common.fit import DEFAULT_FIT, FITS
from partedvae.image_fit import fit_of
from partedvae.serving.bundle_files import read_file
from partedvae.serving.errors import BundleError
from partedvae.v1.manifest_pb2 import Factor, Manifest

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 2
"""Newest version of the format. Bundles whose images are stretched have version 1, which servers before 0.3.0 load."""

MAX_MANIFEST_BYTES = 4 << 20
"""A factor of 10,000 classes with ten dimensions of u has about as many; parsing them takes a second."""
MAX_IMAGE_VALUES = 1 << 24
"""Pixels times channels of one image of the model. A batch has up to 256 images."""
MAX_OUTPUT_VALUES = 1 << 16
"""Values that the encoder returns per image, classes and dimensions of all factors and of z."""
CHANNELS = (1, 3)
"""Grey and RGB."""


def shared_name(dataset: str) -> str:
    """Return the name of a data set for others: that of a folder of images without the path to it."""
    kind, colon, path = dataset.partition(":")
    return f"{kind}:{PurePath(path).name}" if kind == "folder" and colon else dataset


def read_manifest(folder: Path) -> Manifest:
    """Read a version folder's manifest.

    Raises:
        BundleError: it is missing, too large, not valid JSON, of a newer format version, fits images in an unknown way,
            or describes a model that no graph can have or no server can run.
        OSError: it cannot be read.
    """
    path = folder / MANIFEST_FILE
    try:
        text = read_file(path, MAX_MANIFEST_BYTES).decode()
    except FileNotFoundError:
        raise BundleError(
            f"{folder} is not a bundle: {MANIFEST_FILE} is missing; export a run with 'partedvae export'"
        ) from None
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is not text in UTF-8: {error}; export the run again") from error
    try:
        manifest = json_format.Parse(text, Manifest(), ignore_unknown_fields=True)
    # Lone surrogates ("\ud800") and, in some versions, deep nesting are not reported as ParseError.
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not a valid manifest: {error}; export the run again") from error
    # Bundles of earlier versions have the path of the machine that trained them.
    if manifest.HasField("training"):
        manifest.training.dataset = shared_name(manifest.training.dataset)
    if not 1 <= manifest.format_version <= FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {manifest.format_version}, this version of partedvae supports 1 to "
            f"{FORMAT_VERSION}; export the run again, or install the version of partedvae that wrote it"
        )
    fit = fit_of(manifest.image)
    # A name that is unknown is read as if it were absent, which in version 2 it is not.
    if fit is None or (fit == DEFAULT_FIT and manifest.format_version > 1):
        raise BundleError(
            f"{path}: image.fit is none of {', '.join(FITS)}; install the version of partedvae that wrote it, or "
            "export the run again"
        )
    if not manifest.factors or not manifest.HasField("image"):
        raise BundleError(f"{path} has no factors or no image size; export the run again")
    _check_sizes(path, manifest)
    _check_factors(path, manifest)
    return manifest


def _check_sizes(path: Path, manifest: Manifest) -> None:
    image = manifest.image
    values = image.height * image.width * image.channels
    if image.channels not in CHANNELS or not 1 <= values <= MAX_IMAGE_VALUES:
        raise BundleError(
            f"{path}: images of {image.height}x{image.width} pixels with {image.channels} channels are not possible; "
            f"the limits are 1 or 3 channels and {MAX_IMAGE_VALUES:,} values per image; export the run again"
        )
    values = 2 * manifest.z_dim + sum(len(factor.class_names) + 2 * factor.u_dim for factor in manifest.factors)
    if values > MAX_OUTPUT_VALUES:
        raise BundleError(
            f"{path}: {values:,} probabilities, means and log-variances per image are above the limit of "
            f"{MAX_OUTPUT_VALUES:,}; train with fewer classes or dimensions"
        )


def _check_factors(path: Path, manifest: Manifest) -> None:
    """Check that names are unique, and that the priors are as many finite numbers as sampling expects."""
    names = [factor.name for factor in manifest.factors]
    if len(set(names)) < len(names) or not all(names):
        raise BundleError(f"{path}: the names of the factors are not unique, or one is empty; export the run again")
    for factor in manifest.factors:
        classes = len(factor.class_names)
        expected = (classes, classes * factor.u_dim, classes * factor.u_dim)
        found = (len(factor.prior_probs), len(factor.prior_means), len(factor.prior_logvars))
        if classes == 0 or found != expected:
            raise BundleError(
                f"{path}: factor {factor.name!r} has {classes} classes and {found} values of prior_probs, "
                f"prior_means and prior_logvars, expected {expected}; export the run again"
            )
        if len(set(factor.class_names)) < classes:
            raise BundleError(f"{path}: two classes of factor {factor.name!r} have one name; export the run again")
        if not _is_drawable(factor):
            raise BundleError(
                f"{path}: the priors of factor {factor.name!r} are not finite, or prior_probs are no probabilities; "
                "export the run again"
            )


def _is_drawable(factor: Factor) -> bool:
    values = (*factor.prior_probs, *factor.prior_means, *factor.prior_logvars)
    return all(map(math.isfinite, values)) and min(factor.prior_probs) >= 0 and sum(factor.prior_probs) > 0

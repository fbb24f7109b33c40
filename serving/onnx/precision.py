"""Precisions: the numbers that a model's encoder computes with, and what each of them needs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from partedvae.serving.bundle import INT8_ENCODER_FILE, Bundle
from partedvae.serving.errors import BundleError, DeviceError
from partedvae.serving.onnx.devices import Device

Precision = Literal["fp32", "int8"]


def device_for(precision: Precision, device: Device) -> Device:
    """Return the device to run on: with int8, "auto" is the CPU, since ONNX Runtime has its operators only there.

    Raises:
        DeviceError: the device cannot compute with that precision.
    """
    if precision == "fp32":
        return device
    if device not in ("auto", "cpu"):
        raise DeviceError(
            f"precision 'int8' is not available on device {device!r}; choose --device cpu, or --precision fp32"
        )
    return "cpu"


def encoder_for(precision: Precision, bundle: Bundle) -> Path:
    """Return the path of the encoder graph.

    Raises:
        BundleError: the bundle has none of that precision.
    """
    if precision == "fp32":
        return bundle.encoder_path
    if bundle.int8_encoder_path is None:
        raise BundleError(
            f"version {bundle.version} of model {bundle.name!r} has no {INT8_ENCODER_FILE}, which precision 'int8' "
            "needs; export the run again with 'partedvae export --precision int8', or choose --precision fp32"
        )
    return bundle.int8_encoder_path

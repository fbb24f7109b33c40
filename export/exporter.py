"""Export of a run to a bundle: ONNX graphs with verified parity, and a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from google.protobuf.timestamp_pb2 import Timestamp
from jaxtyping import UInt8
from torch import Tensor

from partedvae import image_fit
from partedvae.export.errors import ExportError
from partedvae.export.familiarity import IMAGES, FamiliarScores, familiar_scores
from partedvae.export.graphs import OPSET, write_decoder, write_encoder, write_scorer
from partedvae.export.int8_check import check_int8_encoder
from partedvae.export.parity import BATCH_SIZES, check_parity
from partedvae.export.quantization import calibration_indices, write_int8_encoder
from partedvae.serving.bundle import (
    DECODER_FILE,
    ENCODER_FILE,
    INT8_ENCODER_FILE,
    SCORER_FILE,
    Bundle,
    write_bundle,
)
from partedvae.serving.bundle_files import versions_of
from partedvae.serving.manifest import MANIFEST_FILE, shared_name
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import ImageDataset
from partedvae.training.evaluation.diagnostics import model_warnings
from partedvae.training.evaluation.evaluation import Evaluation, evaluate
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.data import load_run_dataset
from partedvae.training.runs.directory import RunDirectory
from partedvae.v1.manifest_pb2 import Factor, ImageSpec, Manifest, TrainingRecord

Precision = Literal["fp32", "int8"]
"""The values of `partedvae.serving.onnx.precision.Precision`."""


def export_run(
    run_dir: Path,
    model_folder: Path,
    data_dir: Path,
    dataset_name: str | None = None,
    precision: Precision = "fp32",
) -> Bundle:
    """Export the latest checkpoint of a run as the next version of a model.

    Args:
        run_dir: a run directory of `partedvae train`.
        model_folder: folder of the model, `<models>/<name>`; the version is created in it.
        data_dir: folder of the data sets, whose test images are used to check parity, to measure accuracy, and to find
            the range of the negative ELBO.
        dataset_name: name of the data set where its folder has moved; None takes that of the run.
        precision: "int8" adds an encoder of 8-bit integers, which is quantized with training images and compared on all
            test images.

    Raises:
        ValueError: the run, its data or its checkpoint is not available, they do not match, parity fails, or the
            encoder of 8-bit integers is not as accurate. No version is created.
    """
    run = RunDirectory(run_dir)
    _check_folders(run, model_folder)
    config = run.load_config()
    _check_method(run, config)
    model, state = run.load_model(torch.device("cpu"))
    dataset = load_run_dataset(run, data_dir, dataset_name)
    images = _held_out_images(dataset, IMAGES)
    evaluation = evaluate(model, dataset.test, config, run.load_label_counts())
    manifest = _make_manifest(model, config, run.load_provenance(), state["epoch"])
    _add_scores(manifest, evaluation, familiar_scores(model, config, images))
    summary = _summary_of(run, state["epoch"])
    manifest.measures.update(summary.get("measures", {}))
    warnings = summary["warnings"] if "warnings" in summary else model_warnings(model, evaluation, run, dataset)
    manifest.warnings.extend([*warnings, *_unfinished(summary, state["epoch"], config.epochs)])

    def write_graphs(folder: Path) -> None:
        write_encoder(folder / ENCODER_FILE, model, config)
        write_decoder(folder / DECODER_FILE, model, config)
        write_scorer(folder / SCORER_FILE, model, config)
        manifest.parity_max_difference = check_parity(folder, model, config, _repeated(images, max(BATCH_SIZES)))
        if precision == "int8":
            write_int8_encoder(folder / INT8_ENCODER_FILE, folder / ENCODER_FILE, dataset.train.images)
            comparison = check_int8_encoder(
                folder / ENCODER_FILE,
                folder / INT8_ENCODER_FILE,
                dataset.test,
                [factor.name for factor in config.model.factors],
                list(evaluation.accuracies),
            )
            comparison.calibration_images = len(calibration_indices(dataset.train.images))
            manifest.int8_encoder.CopyFrom(comparison)

    return write_bundle(model_folder, manifest, write_graphs)


def _check_folders(run: RunDirectory, model_folder: Path) -> None:
    """Check that a model folder is one, and not a folder above or below it, where no server would find the version.

    Raises:
        ExportError: it holds models or is a version; or it is a run, and the run is a model.
    """
    if versions_of(run.path) and RunDirectory(model_folder).config_file.is_file():
        raise ExportError(
            f"{run.path} is a model and {model_folder} is a run; pass the run first: RUN_DIR MODELS_DIR/NAME"
        )
    if (model_folder / MANIFEST_FILE).is_file():
        raise ExportError(
            f"{model_folder} is one version of a model; pass the folder of the model, {model_folder.resolve().parent}, "
            "where the export becomes the next version"
        )
    if model_folder.is_dir() and not versions_of(model_folder):
        names = sorted(entry.name for entry in model_folder.iterdir() if versions_of(entry))
        if names:
            raise ExportError(
                f"{model_folder} holds the models {', '.join(names)}; pass MODELS_DIR/NAME, such as "
                f"{model_folder / names[0]} for its next version, or a new name"
            )


def _check_method(run: RunDirectory, config: TrainConfig) -> None:
    """Check that the run has class-related features.

    Raises:
        ExportError: it has none.
    """
    if config.method != "partedvae":
        raise ExportError(
            f"{run.path} was trained with method {config.method!r}, which has no class-related features to serve; "
            "export a run of method 'partedvae'"
        )


def _add_scores(manifest: Manifest, evaluation: Evaluation, familiar: FamiliarScores | None) -> None:
    """Write into the manifest what was measured on test images."""
    for name, accuracy in evaluation.accuracies.items():
        manifest.scores[f"accuracy/{name}"] = accuracy
    manifest.scores["reconstruction"] = evaluation.reconstruction
    if familiar is not None:
        manifest.familiar_negative_elbo = familiar.limit
        manifest.negative_elbo_percentiles.extend(familiar.percentiles)


def _unfinished(summary: dict[str, Any], epoch: int, epochs: int) -> Iterator[str]:
    """Yield a warning for what the run lacks: epochs of training, and measures."""
    if epoch < epochs:
        yield (
            f"training is not finished: {epoch} of {epochs} epochs; finish it with 'partedvae train --resume RUN_DIR', "
            "and export again"
        )
    if "measures" not in summary:
        yield "whether u and not z has the class was not measured; run 'partedvae evaluate RUN_DIR', and export again"


def _summary_of(run: RunDirectory, epochs: int) -> dict[str, Any]:
    """Return the summary of a run if it is that of its checkpoint; an unfinished run has none."""
    try:
        summary = run.load_summary()
    except (OSError, ValueError):
        return {}
    return summary if summary.get("epochs") == epochs else {}


def _held_out_images(dataset: ImageDataset, count: int) -> UInt8[Tensor, "images height width channels"]:
    """Return `count` test images, completed with training images; fewer if there are not so many in all."""
    test = dataset.test.images[torch.arange(min(count, len(dataset.test)))]
    train = dataset.train.images[torch.arange(min(count - len(test), len(dataset.train)))]
    return torch.cat([test, train])


def _repeated(images: Tensor, count: int) -> UInt8[Tensor, "count height width channels"]:
    """Return the first `count` images, completed with repetitions if there are too few."""
    return images[torch.arange(count) % len(images)]


def _make_manifest(model: PartedVAE, config: TrainConfig, provenance: dict[str, object], epochs: int) -> Manifest:
    height, width, channels = config.model.image_size
    versions, labelled = provenance["versions"], provenance["labelled_images"]
    assert isinstance(versions, dict)
    assert isinstance(labelled, list)
    group_labels = provenance.get("group_label_counts", {})
    assert isinstance(group_labels, dict)
    created = Timestamp()
    created.GetCurrentTime()
    return Manifest(
        created=created,
        image=ImageSpec(height=height, width=width, channels=channels, fit=image_fit.BY_NAME[config.fit]),
        factors=[
            Factor(
                name=module.config.name,
                class_names=module.config.classes,
                prior_probs=module.config.prior,
                u_dim=module.config.u_dim,
                prior_means=module.prior_modes().mean.flatten().tolist(),
                prior_logvars=module.prior_modes().logvar.flatten().tolist(),
            )
            for module in model.class_factors()
        ],
        z_dim=config.model.z_dim,
        training=TrainingRecord(
            dataset=shared_name(config.dataset),
            recipe=config.recipe,
            seed=config.seed,
            labels_used=len(labelled),
            epochs=epochs,
            partedvae_version=versions["partedvae"],
            torch_version=versions["torch"],
            commit=str(provenance["commit"]),
            group_labels=group_labels,
        ),
        opset=OPSET,
    )

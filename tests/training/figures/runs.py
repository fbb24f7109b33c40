"""Run directories of toy models, as training writes them, and their data sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from partedvae.common.fit import DEFAULT_FIT, Fit
from partedvae.training.config.architecture import FactorConfig, ModelConfig
from partedvae.training.config.train_config import TrainConfig
from partedvae.training.data.dataset import (
    UNLABELLED,
    DatasetInfo,
    FactorInfo,
    ImageDataset,
    LabelUse,
    Split,
    first_labelled,
)
from partedvae.training.figures.context import FigureContext
from partedvae.training.model.partedvae import PartedVAE
from partedvae.training.runs.directory import RunDirectory
from tests.training.toys import TOY_MODEL, tiny_config, toy_dataset

COLOURS = ("red", "green", "$blue_")
"""The last one must not be parsed as a formula by Matplotlib."""
COLOURED_MODEL = ModelConfig(
    image_size=(22, 18, 3),
    network_size=(24, 16),
    encoder_channels=(8, 8),
    decoder_channels=(8, 8),
    hidden_dim=16,
    z_dim=2,
    factors=(FactorConfig(name="colour", classes=COLOURS, prior=(0.6, 0.3, 0.1), u_dim=1),),
)


def without_bc(config: TrainConfig) -> TrainConfig:
    """Return a configuration without the Bhattacharyya term."""
    return dataclasses.replace(config, objective=dataclasses.replace(config.objective, gamma_bc=0.0))


CONFIGS: dict[str, TrainConfig] = {
    "toys": tiny_config(),
    "coloured": tiny_config(dataset="coloured", model=COLOURED_MODEL),
    "one-factor": tiny_config(
        dataset="one-factor", model=dataclasses.replace(TOY_MODEL, factors=TOY_MODEL.factors[:1])
    ),
    "coarse": tiny_config(model=dataclasses.replace(TOY_MODEL, factors=TOY_MODEL.factors[:1])),
    "toys-without-bc": without_bc(tiny_config()),
    "coloured-without-bc": without_bc(tiny_config(dataset="coloured", model=COLOURED_MODEL)),
    "unlabelled": tiny_config(labels=0),
    "half-labelled": tiny_config(dataset="half-labelled"),
    "no-test": tiny_config(dataset="no-test"),
    "vae": tiny_config(method="vae", labels=0, model=dataclasses.replace(TOY_MODEL, factors=())),
    "classifier": tiny_config(method="classifier"),
}
"""A configuration of every kind that figures distinguish."""


def coloured_dataset() -> ImageDataset:
    """Return 60 RGB images of 22x18, each of one of three colours; some have no label."""
    labels = torch.arange(60).remainder(3)[:, None]
    images = (255 * torch.eye(3)[labels[:, 0]]).to(torch.uint8)[:, None, None].expand(-1, 22, 18, -1)
    split = Split(images=images.contiguous(), labels=torch.where(torch.arange(60)[:, None] % 7 == 0, -1, labels))
    info = DatasetInfo(
        name="coloured",
        image_size=(22, 18, 3),
        factors=(FactorInfo(name="colour", classes=COLOURS),),
        train_images=len(split),
    )
    return ImageDataset(info=info, train=split, test=split, source={"coloured": "drawn"})


def untested_dataset() -> ImageDataset:
    """Return the toys without test images."""
    dataset = toy_dataset()
    return dataclasses.replace(dataset, test=dataset.test.first(0))


def one_factor_dataset() -> ImageDataset:
    """Return the toys with labels of the first factor only."""
    dataset = toy_dataset()
    return dataclasses.replace(
        dataset,
        info=dataclasses.replace(dataset.info, factors=dataset.info.factors[:1]),
        train=dataclasses.replace(dataset.train, labels=dataset.train.labels[:, :1]),
        test=dataclasses.replace(dataset.test, labels=dataset.test.labels[:, :1]),
    )


def half_labelled_dataset() -> ImageDataset:
    """Return the toys without any training label of the second factor."""
    dataset = toy_dataset()
    labels = dataset.train.labels.clone()
    labels[:, 1] = UNLABELLED
    return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, labels=labels))


def load(name: str, data_dir: Path, fit: Fit = DEFAULT_FIT, labels: LabelUse = "required") -> ImageDataset:
    """Stand in for the registry's `load_dataset`."""
    makers = {
        "toys": toy_dataset,
        "coloured": coloured_dataset,
        "one-factor": one_factor_dataset,
        "half-labelled": half_labelled_dataset,
        "no-test": untested_dataset,
    }
    return makers[name]()


def metrics(config: TrainConfig) -> list[dict[str, float]]:
    """Return entries of metrics.jsonl as training writes them, for three of four epochs."""
    rows = []
    for epoch in range(1, 4):
        row = {
            "epoch": epoch,
            "step": 10 * epoch,
            "loss": 9.0 / epoch,
            "reconstruction": 8.0 / epoch,
            "kl_z": 0.5 * epoch,
        }
        if config.method == "partedvae":
            row |= {
                "kl_u": 0.4 * epoch,
                "entropy": 1 / epoch,
                "kl_c": 0.1,
                "supervised": 0.2,
                "consistency": 0.0,
                "adversary": 0.2 / epoch,
                "exchange": 1.5 / epoch,
            }
        row |= {f"test/accuracy/{factor.name}": 0.3 * epoch for factor in config.model.factors}
        rows.append(row | {"test/reconstruction": 9.0 / epoch, "test/kl_z": 0.6 * epoch})
    return rows


def write_run(path: Path, name: str) -> Path:
    """Write an untrained run of one of the configurations."""
    config = CONFIGS[name]
    run = RunDirectory(path)
    dataset = load(config.dataset, Path("data"))
    run.start(config, dataset, first_labelled(dataset.train, config.labels), "cpu")
    torch.manual_seed(name.endswith("without-bc"))
    run.save_checkpoint({"final_model": PartedVAE(config.model).state_dict()})
    for row in metrics(config):
        run.append_metrics(row)
    return path


def figure_context(path: Path, seed: int = 0) -> FigureContext:
    """Return the figure context of a run."""
    return FigureContext(run=RunDirectory(path), data_dir=Path("data"), seed=seed)

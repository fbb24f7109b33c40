"""A toy data set and a configuration for it, small enough to train within seconds."""

from __future__ import annotations

import dataclasses

import torch

from partedvae.training.config.architecture import FactorConfig, ModelConfig
from partedvae.training.config.recipes import recipe
from partedvae.training.config.train_config import SupervisionConfig, TrainConfig
from partedvae.training.data.dataset import DatasetInfo, FactorInfo, ImageDataset, Split
from partedvae.training.data.mnist import INFO

CORNERS = ("top left", "top right", "bottom left", "bottom right")
SHADES = ("dim", "bright")

TOY_INFO = DatasetInfo(
    name="toys",
    image_size=(16, 16, 1),
    factors=(FactorInfo(name="corner", classes=CORNERS), FactorInfo(name="shade", classes=SHADES)),
    train_images=320,
)


def toy_split(count: int, seed: int) -> Split:
    """Draw squares in one of four corners, dim or bright, jittered, on noise: 16x16, grey, two factors."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(4, (count,), generator=generator)
    shade = torch.randint(2, (count,), generator=generator)
    jitter = torch.randint(2, (count, 2), generator=generator)
    images = torch.randint(20, (count, 16, 16, 1), generator=generator)
    for k in range(count):
        top = 8 * int(corner[k] // 2) + 1 + int(jitter[k, 0])
        left = 8 * int(corner[k] % 2) + 1 + int(jitter[k, 1])
        images[k, top : top + 5, left : left + 5] += 110 + 120 * int(shade[k])
    return Split(images=images.to(torch.uint8), labels=torch.stack([corner, shade], dim=1))


def toy_dataset() -> ImageDataset:
    """Return 320 training and 64 test images."""
    return ImageDataset(info=TOY_INFO, train=toy_split(320, 1), test=toy_split(64, 2), source={"toys": "drawn"})


TOY_MODEL = ModelConfig(
    image_size=(16, 16, 1),
    network_size=(16, 16),
    encoder_channels=(8, 8),
    decoder_channels=(8, 8),
    hidden_dim=32,
    z_dim=3,
    factors=(
        FactorConfig(name="corner", classes=CORNERS, prior=(0.25,) * 4, u_dim=2),
        FactorConfig(name="shade", classes=SHADES, prior=(0.5, 0.5), u_dim=1),
    ),
)


def tiny_config(name: str = "default", **changes: object) -> TrainConfig:
    """Return a recipe of MNIST with the toy model, small batches and few epochs."""
    base = recipe(INFO, name)
    supervision = base.supervision
    if name == "default":
        # The class of a toy is its corner, which a shift by augmentation could change.
        supervision = SupervisionConfig(
            batch_size=16, warm_start_steps=20, consistency_weight=10.0, consistency_threshold=0.9, ema_decay=0.95
        )
    config = dataclasses.replace(
        base, dataset="toys", labels=40, epochs=4, batch_size=32, model=TOY_MODEL, supervision=supervision
    )
    # The keyword arguments have different types.
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]  # fields by name

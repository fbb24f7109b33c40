"""A program for torchrun: a few training steps on the toys; the first rank saves losses and weights.

Usage: parallel_steps.py OUTPUT METHOD TRAIN_IMAGES
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import torch

from partedvae.training.config.overrides import apply_overrides
from partedvae.training.config.train_config import MethodName
from partedvae.training.data.dataset import first_labelled
from partedvae.training.distributed import launch
from partedvae.training.engine.device import prepare
from partedvae.training.engine.trainer import Trainer
from tests.training.objectives.test_methods import config_of
from tests.training.toys import tiny_config, toy_dataset

STEPS = 6
TERMS = {
    "partedvae": ("objective.gamma_exchange=0", "objective.gamma_cycle=0", "objective.gamma_adversary=0"),
    "separated": ("objective.gamma_exchange=5", "objective.gamma_cycle=2", "objective.gamma_adversary=2"),
}
"""Terms of PartedVAE that a recipe may have, by the name that the test gives them."""


def main(output: Path, method: str, train_images: int) -> None:
    """Train and save."""
    config = apply_overrides(tiny_config(), TERMS[method]) if method in TERMS else config_of(cast(MethodName, method))
    train = toy_dataset().train.first(train_images)
    context = launch("cpu", "32-true")
    prepare(config.seed)
    trainer = Trainer(config, train, first_labelled(train, config.labels), context)
    trainer.warm_start()
    losses = [trainer.train_step() for _ in range(STEPS)]
    # A mean over the images of a rank, averaged over ranks, is that of the batch.
    means = torch.stack([context.mean(torch.stack(list(step.values()))) for step in losses])
    if context.is_main_process:
        weights = torch.cat([p.detach().flatten() for p in trainer.final_model.parameters()])
        torch.save({"world": context.world_size, "losses": means, "names": list(losses[0]), "weights": weights}, output)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

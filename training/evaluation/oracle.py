"""The oracle: a classifier that judges decoded images, trained once per data set on all labels of the training split.

It shares nothing with the model that it judges: it sees labels that the model does not, and has networks of its own.
Its weights are stored beside the data set, because they depend on the data and on the settings in this module alone.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from partedvae.common.progress import progress_bar
from partedvae.training.data.dataset import UNLABELLED, ImageDataset, Images, Split, count_labels
from partedvae.training.data.names import FOLDER
from partedvae.training.model.networks import preprocess
from partedvae.training.runs.data import is_drawn
from partedvae.training.runs.directory import save_tensors

FEWEST_LABELS = 1_000
"""Fewest labelled training images of a factor that the oracle is trained for. Its test accuracy on MNIST is 97.2 % from
1,000 labels, 94.8 % from 500 and 93.0 % from 300: an oracle that errs more often would hide the errors of a model."""
FEWEST_TESTS = 100
"""Fewest labelled test images of such a factor: the error of an accuracy of 95 % is then 2 points."""
LARGEST_SIDE = 64
"""Larger images are halved until their longer side is at most this."""
SMALL_SIDE = 32
"""Images up to this size train for twice as many."""
TRAIN_IMAGES = 60_000
"""Maximum number of different training images."""
PRESENTED = 60_000
"""Number of training images shown in all epochs together, and twice that for small ones: 40 seconds on one thread."""
MAX_EPOCHS = 30
"""Maximum number of epochs, for data sets of few labelled images."""
BATCH = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.2
SHIFT = 2
"""Each training batch is shifted by up to so many pixels in both directions; the empty border wraps around."""
CHANNELS = (16, 32, 64)
"""Filters of the convolutions with stride 2, the last for larger images only; one more of stride 1 follows."""
HIDDEN = 128
SEED = 0
FORMAT = 1
"""Part of the name of a stored oracle; to be increased when this module changes in what the constants do not show."""
TEST_BATCH = 500
PROBE_IMAGES = 256
"""Training images whose pixels are part of the identity of the data."""


class OracleNetwork(nn.Module):
    """Convolutions with batch normalisation, a hidden layer, and one head per factor."""

    def __init__(self, size: tuple[int, int], channels: int, classes: tuple[int, ...]) -> None:
        """Create the network.

        Args:
            size: height and width of its images.
            channels: channels of its images.
            classes: number of classes of each factor.
        """
        super().__init__()
        self.halvings = 0
        while max(size) >> self.halvings > LARGEST_SIDE:
            self.halvings += 1
        layers: list[nn.Module] = []
        before, side = channels, max(size) >> self.halvings
        for after in CHANNELS[:-1] if side <= SMALL_SIDE else CHANNELS:
            layers += _convolution(before, after, 2)
            before = after
        self.body = nn.Sequential(
            *layers,
            *_convolution(before, CHANNELS[-1], 1),
            nn.AdaptiveMaxPool2d(4),
            nn.Flatten(),
            nn.Dropout(DROPOUT),
            nn.Linear(16 * CHANNELS[-1], HIDDEN),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, count) for count in classes)

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> tuple[Float[Tensor, "batch _"], ...]:
        """Return the logits of every factor."""
        for _ in range(self.halvings):
            pixels = functional.avg_pool2d(pixels, 2)
        hidden = self.body(pixels)
        return tuple(head(hidden) for head in self.heads)


def _convolution(before: int, after: int, stride: int) -> list[nn.Module]:
    side = 5 if before <= 3 else 3
    return [nn.Conv2d(before, after, side, stride, side // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """A trained oracle."""

    network: OracleNetwork
    """The network, in evaluation mode."""
    accuracy: dict[str, float]
    """Its accuracy on the labelled test images, by factor; only of the factors that it was trained for."""

    @torch.no_grad()
    def classify(self, pixels: Float[Tensor, "batch channels height width"]) -> Int[Tensor, "batch factors"]:
        """Return the class of every factor that the oracle sees in images, in [0, 1] at the network's size."""
        return torch.stack([logits.argmax(dim=1) for logits in self.network(pixels)], dim=1)


def judged_factors(dataset: ImageDataset) -> list[str]:
    """Return the factors with enough labels for an oracle, in the order of the data set."""
    counts = [count_labels(split.labels) for split in (dataset.train, dataset.test)]
    return [
        factor.name
        for factor, train, test in zip(dataset.info.factors, *counts, strict=True)
        if train >= FEWEST_LABELS and test >= FEWEST_TESTS
    ]


def load_oracle(
    dataset: ImageDataset, network_size: tuple[int, int], data_dir: Path, device: torch.device
) -> Oracle | None:
    """Return the oracle of a data set; it is trained on first use and stored in the data set's folder.

    Args:
        dataset: the data set.
        network_size: height and width of the pixels that it will judge.
        data_dir: folder of the data sets.
        device: where to train and run it.

    Returns:
        The oracle; None where no factor has enough labels.
    """
    names = judged_factors(dataset)
    if not names:
        return None
    path = data_dir / _folder(dataset) / f"oracle-{_digest(dataset, network_size, names)}.pt"
    network = _new_network(dataset, network_size).to(device)
    stored = _read(path, network, device)
    if stored is None:
        _train(network, dataset.train, network_size)
        accuracy = _accuracy(network, dataset, network_size)
        stored = {name: accuracy[name] for name in names}
        _store(path, network, stored)
    return Oracle(network=network.eval(), accuracy=stored)


def _folder(dataset: ImageDataset) -> str:
    """Return the name of the data set's folder; one of the user's own images is not written to."""
    name = dataset.info.name
    return "folder" if name.startswith(FOLDER) else name


def _digest(dataset: ImageDataset, network_size: tuple[int, int], names: list[str]) -> str:
    """Return 16 hexadecimal digits that identify the data and the settings of an oracle."""
    train = dataset.train
    probe = torch.linspace(0, len(train) - 1, min(PROBE_IMAGES, len(train))).long()
    settings = (FEWEST_LABELS, LARGEST_SIDE, SMALL_SIDE, TRAIN_IMAGES, PRESENTED, MAX_EPOCHS, BATCH, LEARNING_RATE)
    description = {
        "format": FORMAT,
        "settings": [*settings, WEIGHT_DECAY, DROPOUT, SHIFT, CHANNELS, HIDDEN, SEED],
        "size": network_size,
        "factors": [(factor.name, factor.classes) for factor in dataset.info.factors],
        "judged": names,
        # The origin of drawn data may contain the path of the data folder.
        "source": {name: "drawn" if is_drawn(origin) else origin for name, origin in dataset.source.items()},
        "images": len(train),
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for split in (dataset.train, dataset.test):
        digest.update(split.labels.numpy().astype("<i8").tobytes())
    digest.update(train.images[probe].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _new_network(dataset: ImageDataset, network_size: tuple[int, int]) -> OracleNetwork:
    classes = tuple(len(factor.classes) for factor in dataset.info.factors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return OracleNetwork(network_size, dataset.info.image_size[2], classes)


def _read(path: Path, network: OracleNetwork, device: torch.device) -> dict[str, float] | None:
    """Load stored weights into the network and return its accuracies; None where there are none, or a damaged file."""
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(stored["network"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
        return None
    accuracy: dict[str, float] = stored["accuracy"]
    return accuracy


def _store(path: Path, network: OracleNetwork, accuracy: dict[str, float]) -> None:
    state = {name: value.cpu() for name, value in network.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, {"network": state, "accuracy": accuracy})
    except OSError as error:
        click.echo(f"the oracle is not stored, and will be trained again next time: {error}", err=True)


def _train(network: OracleNetwork, train: Split, network_size: tuple[int, int]) -> None:
    """Train with AdamW on a learning rate that rises and falls once; factors without a label are left out per image."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(SEED)
    labelled = torch.nonzero((train.labels != UNLABELLED).any(dim=1)).squeeze(1)
    labelled = labelled[torch.randperm(len(labelled), generator=generator)[:TRAIN_IMAGES]]
    presented = PRESENTED * (2 if max(network_size) <= SMALL_SIDE else 1)
    epochs = min(MAX_EPOCHS, max(1, presented // len(labelled)))
    batch = min(BATCH, len(labelled))
    steps = epochs * (len(labelled) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    # One step more than are taken, as the scheduler is stepped once on creation.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps + 1)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    with (
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
        progress_bar(steps * batch, unit="img", title="training the oracle, once per data set") as bar,
    ):
        torch.manual_seed(SEED)
        for _ in range(epochs):
            order = labelled[torch.randperm(len(labelled), generator=generator)]
            for indices in order[: len(order) // batch * batch].split(batch):
                shift = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
                pixels = preprocess(train.images[indices].to(device), network_size).roll(shift, (2, 3))
                labels = train.labels[indices].to(device)
                loss = torch.stack(
                    [
                        functional.cross_entropy(logits, labels[:, k], ignore_index=UNLABELLED, reduction="sum")
                        for k, logits in enumerate(network(pixels))
                    ]
                ).sum()
                optimiser.zero_grad()
                (loss / batch).backward()
                optimiser.step()
                schedule.step()
                bar.update(batch)


def _accuracy(network: OracleNetwork, dataset: ImageDataset, network_size: tuple[int, int]) -> dict[str, float]:
    labels = dataset.test.labels
    seen = _classify_all(network.eval(), dataset.test.images, network_size)
    known = labels != UNLABELLED
    correct = ((seen == labels) & known).sum(dim=0) / known.sum(dim=0)
    return dict(zip((factor.name for factor in dataset.info.factors), correct.tolist(), strict=True))


@torch.no_grad()
def _classify_all(
    network: OracleNetwork, images: Images, network_size: tuple[int, int]
) -> Int[Tensor, "images factors"]:
    device = next(network.parameters()).device
    seen = []
    for indices in torch.arange(len(images)).split(TEST_BATCH):
        logits = network(preprocess(images[indices].to(device), network_size))
        seen.append(torch.stack([factor.argmax(dim=1) for factor in logits], dim=1).cpu())
    return torch.cat(seen)

"""Choice of the test images and names of their classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from partedvae.training.data.dataset import Split
from partedvae.training.figures import context as context_module
from partedvae.training.figures.context import EncodedImages, encode_sample
from partedvae.training.model.distributions import Gaussian
from partedvae.training.runs.directory import RunDirectory
from tests.training.figures import runs
from tests.training.toys import CORNERS, SHADES

RunOf = Callable[[str], Path]


def encoded(predictions: list[int], labels: list[int], *, use_labels: bool = True) -> EncodedImages:
    """Return images of which only the classes are set."""
    count = len(predictions)
    return EncodedImages(
        split=Split(images=torch.zeros(count, 1, 1, 1, dtype=torch.uint8), labels=torch.tensor(labels)[:, None]),
        predictions=torch.tensor(predictions)[:, None],
        u=torch.zeros(count, 1),
        z=Gaussian(torch.zeros(count, 1), torch.zeros(count, 1)),
        use_labels=(use_labels,),
    )


def test_the_class_of_an_image_is_its_label_or_else_the_predicted_class() -> None:
    assert encoded([0, 1, 2], [0, 2, -1]).classes(0).tolist() == [0, 2, 2]
    assert encoded([0, 1, 2], [0, 2, -1], use_labels=False).classes(0).tolist() == [0, 1, 2]


def test_only_correctly_classified_images_are_examples_unless_there_is_none() -> None:
    assert encoded([0, 1, 2], [0, 2, -1]).recognised(0).tolist() == [0, -1, 2]
    assert encoded([0, 1], [1, 0]).recognised(0).tolist() == [0, 1]


def test_the_sample_is_random_encoded_once_and_of_limited_size(run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "SAMPLE", 20)
    path = run_of("toys")
    first, again, other = (runs.figure_context(path, seed).encoded for seed in (0, 0, 1))
    assert len(first.split) == len(first.u) == len(first.z.mean) == len(first.predictions) == 20
    assert torch.equal(first.split.labels, again.split.labels)
    assert not torch.equal(first.split.labels, other.split.labels)


def test_the_encoded_images_are_those_of_the_split(run_of: RunOf) -> None:
    context = runs.figure_context(run_of("toys"))
    test = runs.load("toys", Path("data")).test
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(5))
    found = encode_sample(context.model, test, context.config, context.label_counts, torch.Generator().manual_seed(5))
    assert torch.equal(found.split.labels, test.labels[order])
    assert torch.equal(found.split.images[torch.arange(3)], test.images[order[:3]])


def test_bases_are_images_of_different_classes(run_of: RunOf) -> None:
    context = runs.figure_context(run_of("toys"))
    context.__dict__["encoded"] = encoded([3, 3, 1, 0], [3, 3, 1, 2])
    bases = context.bases(3)
    assert [(base.class_index, base.name) for base in bases] == [
        (3, f"corner: {CORNERS[3]}"),
        (1, f"corner: {CORNERS[1]}"),
    ]


def test_without_labels_in_training_classes_are_numbered(run_of: RunOf) -> None:
    context = runs.figure_context(run_of("unlabelled"))
    assert context.factors[1].classes == ("cluster 1", "cluster 2")
    assert runs.figure_context(run_of("toys")).factors[0].classes == CORNERS


def test_classes_of_the_one_factor_without_a_label_are_numbered(run_of: RunOf) -> None:
    context = runs.figure_context(run_of("half-labelled"))
    assert [factor.classes for factor in context.factors] == [CORNERS, ("cluster 1", "cluster 2")]
    assert context.encoded.use_labels == (True, False)
    assert torch.equal(context.encoded.classes(1), context.encoded.predictions[:, 1])
    assert torch.equal(context.encoded.classes(0), context.encoded.split.labels[:, 0])


def test_a_run_without_label_counts_uses_the_number_of_labels_of_its_configuration(run_of: RunOf) -> None:
    path = run_of("toys")
    run = RunDirectory(path)
    assert run.load_label_counts() == {"corner": 40, "shade": 40}
    provenance = run.load_provenance()
    del provenance["label_counts"]
    run.provenance_file.write_text(json.dumps(provenance))
    assert run.load_label_counts() == {"corner": 40, "shade": 40}
    assert runs.figure_context(path).factors[1].classes == SHADES


def test_the_prior_base_is_the_mean_of_the_most_probable_class(run_of: RunOf) -> None:
    context = runs.figure_context(run_of("coloured"))
    base = context.prior_base()
    assert torch.equal(base.u, context.modes(0).mean[0])
    assert base.z.tolist() == [0, 0]
